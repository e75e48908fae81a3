from django.db import migrations, models
import django.db.models.functions.datetime

FILL = 'ALTER TABLE workers_worker SET (fillfactor = 50)'
FULL = 'ALTER TABLE workers_worker RESET (fillfactor)'


def leave_room(apps, schema_editor):
    """In each page of PostgreSQL, for the next state of its rows."""
    if schema_editor.connection.vendor == 'postgresql':
        schema_editor.execute(FILL)


def fill(apps, schema_editor):
    if schema_editor.connection.vendor == 'postgresql':
        schema_editor.execute(FULL)


class Migration(migrations.Migration):

    dependencies = [
        ('workers', '0009_plain_help_texts'),
    ]

    operations = [
        migrations.CreateModel(
            name='WrittenBatch',
            fields=[
                ('name', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('left', models.JSONField(default=list, help_text='What of it had to wait.')),
            ],
        ),
        migrations.AddField(
            model_name='worker',
            name='declared',
            field=models.CharField(blank=True, db_default='', help_text='The version that its environment names, once it is registered.', max_length=300),
        ),
        migrations.AlterField(
            model_name='worker',
            name='host',
            field=models.CharField(help_text='What it shares its cores with.', max_length=64),
        ),
        migrations.AlterField(
            model_name='worker',
            name='last_seen',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.RunPython(leave_room, fill),
    ]
