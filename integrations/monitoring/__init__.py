"""How rules and workers are doing: what is counted, shown, told and cleaned up."""
