import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0005_models_of_versions")]

    operations = [
        migrations.RemoveField(model_name="modelversion", name="name"),
        migrations.RemoveField(model_name="modelversion", name="task"),
        migrations.AlterField(
            model_name="modelversion",
            name="model",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="versions", to="workers.servedmodel"),
        ),
        migrations.AddConstraint(
            model_name="modelversion",
            constraint=models.UniqueConstraint(fields=("model", "version"), name="one_row_per_model_version"),
        ),
        migrations.AddField(
            model_name='latencysample',
            name='failed',
            field=models.PositiveIntegerField(default=0, help_text='Requests without an answer.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='checked_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='checks',
            field=models.JSONField(blank=True, default=list, help_text='Each step of its last check, and what it found.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='digest',
            field=models.CharField(blank=True, help_text='SHA-256 over all its files.', max_length=64),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='memory',
            field=models.PositiveBigIntegerField(blank=True, help_text='Bytes that it takes in a worker; measured by its check.', null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='options',
            field=models.JSONField(blank=True, default=dict, help_text='As its kind knows them.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='reason',
            field=models.TextField(blank=True, help_text='Why it was rejected.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='registered_by',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='schemas',
            field=models.JSONField(blank=True, default=dict, help_text='JSON Schema of input and output, if it has its own.'),
        ),
        migrations.AddField(
            model_name='worker',
            name='held',
            field=models.JSONField(default=dict, help_text='Each version it holds or is told to: its state, and figures.'),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='dimensions',
            field=models.PositiveIntegerField(default=0, help_text='Numbers in one answer.'),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='first_seen',
            field=models.DateTimeField(auto_now_add=True, verbose_name='registered'),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='source',
            field=models.CharField(blank=True, help_text='A folder under VELO_MODEL_ROOTS, package:NAME, or hub:ORG/NAME@REVISION.', max_length=1000),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='version',
            field=models.CharField(max_length=64, validators=[django.core.validators.RegexValidator('^[^/@\\s]+\\Z', 'It stands in addresses and names of queues: without slashes, @ and white space.')]),
        ),
        migrations.AlterField(
            model_name='worker',
            name='model_version',
            field=models.ForeignKey(blank=True, help_text='The first of those it holds.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='workers', to='workers.modelversion'),
        ),
        migrations.CreateModel(
            name='GoldenInput',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('input', models.JSONField()),
                ('expected', models.JSONField(blank=True, help_text='Empty: the next version that is checked fills it in, and later ones must agree.', null=True)),
                ('tolerance', models.FloatField(default=0.01, help_text='How far any number may be from the expected one.', validators=[django.core.validators.MinValueValidator(0.0)])),
                ('changed', models.DateTimeField(auto_now=True)),
                ('recorded_from', models.CharField(blank=True, editable=False, max_length=300)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='golden_inputs', to='workers.servedmodel')),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.CreateModel(
            name='Change',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(choices=[('activate', 'Activate'), ('rollback', 'Rollback'), ('canary', 'Canary'), ('shadow', 'Shadow'), ('default', 'Default'), ('register', 'Register')], max_length=16)),
                ('share', models.PositiveSmallIntegerField(blank=True, help_text='Per cent.', null=True)),
                ('by', models.CharField(max_length=200)),
                ('reason', models.TextField()),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('outcome', models.CharField(choices=[('pending', 'Pending'), ('done', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='done', max_length=16)),
                ('ended', models.DateTimeField(blank=True, null=True)),
                ('detail', models.TextField(blank=True)),
                ('from_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workers.modelversion')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='workers.servedmodel')),
                ('to_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workers.modelversion')),
            ],
            options={
                'verbose_name': 'audit trail entry',
                'verbose_name_plural': 'audit trail entries',
                'ordering': ['-at', '-pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('outcome', 'pending')), fields=('model',), name='one_pending_change_a_model')],
            },
        ),
        migrations.CreateModel(
            name='ShadowComparison',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('count', models.PositiveBigIntegerField(default=0)),
                ('failed', models.PositiveBigIntegerField(default=0, help_text='The shadow gave no answer.')),
                ('likeness', models.JSONField(default=dict, help_text='As workers.comparing.Likeness keeps it.')),
                ('last', models.DateTimeField(auto_now=True)),
                ('shadow', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='compared', to='workers.modelversion')),
                ('to', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workers.modelversion')),
            ],
            options={
                'ordering': ['-last'],
                'constraints': [models.UniqueConstraint(fields=('shadow', 'to'), name='one_row_per_pair_of_versions')],
            },
        ),
        migrations.AddField(
            model_name='worker',
            name='follows',
            field=models.BooleanField(default=True, help_text='It holds what the admin says, and no versions of its own choice.'),
        ),
        migrations.AlterField(
            model_name='change',
            name='action',
            field=models.CharField(choices=[('activate', 'Activate'), ('rollback', 'Rollback'), ('canary', 'Canary'), ('shadow', 'Shadow'), ('default', 'Default'), ('register', 'Register')], max_length=16),
        ),
    ]
