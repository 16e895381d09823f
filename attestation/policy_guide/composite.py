"""The [composite] section."""

from .words import Guide, Key, Writing, flag, loosening, only

COMPOSITE = Guide(
    title="Other providers' documents; goes with the sections of the hardware inside",
    keys=(
        Key(
            name="formats",
            type="array out of dstack, tinfoil-v3",
            default="required",
            meaning="The documents that are accepted.",
            value='["dstack", "tinfoil-v3"]',
            writing=Writing.ALWAYS,
        ),
        loosening(
            "allow_unbound_devices",
            "Take devices that the CPU's report does not commit to.",
            "They answer the same nonce and may be anybody's.",
        ),
    ),
    fields={
        "formats": only("documents"),
        "allow_unbound_devices": flag(
            "devices need not be bound into the CPU's report: they may be anybody's",
            "devices must be bound into the CPU's report",
        ),
    },
)
