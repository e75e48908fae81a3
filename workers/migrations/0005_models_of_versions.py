from django.db import migrations
from django.db.models import F


def models_of_versions(apps, schema_editor):
    """Every version that is there gets its model; the newest of each is taken for the active one."""
    ServedModel = apps.get_model("workers", "ServedModel")
    ModelVersion = apps.get_model("workers", "ModelVersion")
    newest = {}
    for version in ModelVersion.objects.order_by("first_seen"):
        model, _ = ServedModel.objects.get_or_create(name=version.name, defaults={"kind": version.task})
        version.model = model
        version.state = "rejected" if version.state == "rejected" else "retired"
        version.save()
        if version.state != "rejected":
            newest[model.name] = version
    for name, version in newest.items():
        ModelVersion.objects.filter(pk=version.pk).update(state="active")
        ServedModel.objects.filter(pk=name).update(active=version)
    if newest:
        ServedModel.objects.filter(pk=list(newest)[-1]).update(is_default=True)


def names_of_versions(apps, schema_editor):
    ModelVersion = apps.get_model("workers", "ModelVersion")
    ModelVersion.objects.update(name=F("model_id"), state="ready")


class Migration(migrations.Migration):
    # Apart from the changes of tables: PostgreSQL doesn't alter one with rows that were just written.
    dependencies = [("workers", "0004_served_models")]

    operations = [migrations.RunPython(models_of_versions, names_of_versions)]
