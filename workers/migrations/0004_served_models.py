import django.core.validators
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F

PLAIN = django.core.validators.RegexValidator(
    "^[^/@\\s]+\\Z",
    "It stands in addresses and names of queues: without slashes, @ and white space.",
)


class Migration(migrations.Migration):
    dependencies = [("workers", "0003_losses")]

    operations = [
        migrations.CreateModel(
            name="ServedModel",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False, validators=[PLAIN])),
                ("kind", models.CharField(choices=[("embed", "Embed"), ("classify", "Classify"), ("rerank", "Rerank"), ("ner", "Ner"), ("sleep", "Sleep"), ("custom", "Custom")], default="embed", max_length=16)),
                ("is_default", models.BooleanField(default=False, help_text="/transform asks this one.", verbose_name="default")),
                ("follows_environment", models.BooleanField(default=True, help_text="Until a person activates a version, each worker serves the one it is started with (VELO_MODEL_PATH).")),
                ("canary_share", models.PositiveSmallIntegerField(default=0, help_text="Per cent of the requests that the canary answers.", validators=[django.core.validators.MaxValueValidator(99)])),
                ("shadow_share", models.PositiveSmallIntegerField(default=0, help_text="Per cent of the requests of which the shadow gets a copy.", validators=[django.core.validators.MaxValueValidator(100)])),
                ("active", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="workers.modelversion")),
                ("previous", models.ForeignKey(blank=True, help_text="The one that was active before: a rollback goes there.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="workers.modelversion")),
                ("canary", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="workers.modelversion")),
                ("shadow", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="workers.modelversion")),
            ],
            options={"verbose_name": "model", "ordering": ["name"]},
        ),
        migrations.AddConstraint(
            model_name="servedmodel",
            constraint=models.UniqueConstraint(condition=models.Q(("is_default", True)), fields=("is_default",), name="one_default_model"),
        ),
        migrations.RemoveConstraint(model_name="modelversion", name="one_row_per_model_version"),
        migrations.AlterModelOptions(
            name="modelversion",
            options={"ordering": ["-first_seen"], "permissions": [("activate_modelversion", "Can decide which versions serve")]},
        ),
        migrations.AddField(
            model_name="modelversion",
            name="model",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="versions", to="workers.servedmodel"),
        ),
        migrations.AlterField(
            model_name="modelversion",
            name="state",
            field=models.CharField(choices=[("registered", "Registered"), ("checking", "Checking"), ("ready", "Ready"), ("active", "Active"), ("retired", "Retired"), ("rejected", "Rejected")], default="registered", max_length=16),
        ),
        migrations.AlterField("modelversion", "name", models.CharField(default="", max_length=200)),
        migrations.AlterField("modelversion", "task", models.CharField(default="embed", max_length=32)),
    ]
