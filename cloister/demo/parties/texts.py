"""What the parties of the demo bring: names, roles, documents and questions. All of it is made up."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A party: `name` is how processes and the consent know it."""

    name: str
    title: str
    role: str
    holds: tuple[str, ...]
    never: str


LAB = Part(
    name="lab",
    title="Model lab",
    role="owns the base model",
    holds=("a base model: 2 million parameters that memorised a FAQ", "its data key, at its own broker"),
    never="prompts, documents, the adapter",
)
TUNER = Part(
    name="tuner",
    title="Adapter owner",
    role="owns a LoRA adapter for that model",
    holds=("an adapter that answers in another voice", "its data key, at its own broker"),
    never="prompts, documents, the base model's weights",
)
NORTH = Part(
    name="north",
    title="North hospital",
    role="private documents and questions",
    holds=("discharge letters", "its questions and the answers to them"),
    never="the weights, South's documents and questions",
)
SOUTH = Part(
    name="south",
    title="South hospital",
    role="private documents and questions",
    holds=("ward notes", "its questions and the answers to them"),
    never="the weights, North's documents and questions",
)
OPERATOR = Part(
    name="operator",
    title="Operator",
    role="runs the machine: disk, network, bus, boot images, firmware",
    holds=("ciphertext, sizes and times",),
    never="anything above in the clear",
)
AUDITOR = Part(
    name="auditor",
    title="Auditor",
    role="publishes reference values, checks receipts",
    holds=("receipts, evidence of their hours",),
    never="contents",
)
CAST = (LAB, TUNER, NORTH, SOUTH, OPERATOR, AUDITOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a hospital asks: words to look for in its own documents, and a question for the model."""

    look_for: str
    ask: str
    model: str = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A hospital's documents by file name, and its questions."""

    files: dict[str, str] = field(repr=False)
    questions: tuple[Question, ...]


NORTH_FILES = {
    "letters/2031-marsh.txt": """North hospital, discharge letter
Patient: M. Marsh, record N-20314

Admitted on 3 March with shortness of breath. Echocardiogram: ejection fraction 38 percent.
Treated with intravenous furosemide; weight fell from 84.2 to 79.6 kg.

Discharged on 11 March with ramipril 5 mg, bisoprolol 2.5 mg and furosemide 40 mg daily.
Kidney function to be checked within seven days: creatinine was 131 on discharge.

Readmitted on 2 April after stopping furosemide by himself. He had not understood why he took it.
""",
    "letters/2032-hollis.txt": """North hospital, discharge letter
Patient: A. Hollis, record N-20327

Admitted on 14 March after a fall. Fracture of the left radius, treated in plaster.

Blood pressure on standing fell from 142 to 108. Amlodipine was stopped and not replaced.
To be seen in the falls clinic on 9 April.
""",
}
SOUTH_FILES = {
    "ward/april.txt": """South hospital, ward notes of April
Bed 4: J. Ortega, record S-7719

Warfarin restarted on 6 April, INR 1.6 on 9 April, target 2 to 3. Next INR on 12 April.
Family asks whether rivaroxaban would spare the blood tests.

Bed 7: P. Lindqvist, record S-7731

Sodium 127 on admission, 131 after hydrochlorothiazide was stopped. Fluid restriction lifted on 8 April.
""",
}
NORTH_WARD = Ward(
    files=NORTH_FILES,
    questions=(
        Question(look_for="why was Marsh readmitted furosemide", ask="What is remote attestation?"),
        Question(look_for="blood pressure Hollis", ask="What is a LoRA adapter?", model="adapter"),
    ),
)
SOUTH_WARD = Ward(
    files=SOUTH_FILES,
    questions=(Question(look_for="when is the next INR of Ortega", ask="What is HPKE?"),),
)
WARDS = {"north": NORTH_WARD, "south": SOUTH_WARD}
