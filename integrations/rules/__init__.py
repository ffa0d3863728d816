"""Integration rules: what one may be, making and changing one."""
