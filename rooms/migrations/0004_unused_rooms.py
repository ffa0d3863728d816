"""Rooms that only attaches made can be told from the others, to be removed with their last member.

Columns without a default change no row, and rooms that the version before makes meanwhile stay.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rooms", "0003_serials_of_published")]

    operations = [
        migrations.AddField("room", "unused_after", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("room", "made_by", models.CharField(editable=False, max_length=300, null=True)),
    ]
