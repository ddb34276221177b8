"""The examples that `--help` shows for each command. A test runs them."""

EXAMPLES = {
    "doctor": ("joulelaw doctor",),
    "plan": (
        "joulelaw plan quickstart",
        "joulelaw plan p1",
        "joulelaw plan my_sweep.yaml --law law.json",
    ),
    "run": (
        "joulelaw run quickstart",
        "joulelaw run my_sweep.yaml --into results/lab/my_sweep",
        "joulelaw run my_sweep.yaml --alone --minutes 9",
    ),
    "status": (
        "joulelaw status results/lab/my_sweep",
        "joulelaw status results/lab/my_sweep --watch",
    ),
    "trial": (
        "joulelaw trial quickstart",
        "joulelaw trial my_sweep.yaml --id 0123456789ab-r0 --into results/debug",
        "joulelaw trial quickstart --operations --into results/operations",
    ),
    "import": (
        "joulelaw import measurements.csv --into results/theirs --boundary node_ac",
        "joulelaw import measurements.csv --into results/theirs --boundary node_ac --devices my_gpus.toml",
    ),
    "fit": (
        "joulelaw fit results/lab/my_sweep --out law.json",
        "joulelaw fit results/lab/my_sweep --law reduced_form --out reduced_form.json",
    ),
    "validate": (
        "joulelaw validate results/lab/my_sweep --out validation.json",
        "joulelaw validate results/lab/my_sweep --law roofline --hold-out strategy",
    ),
    "predict": (
        "joulelaw predict law.json runs.csv --out forecast.csv",
        "joulelaw predict law.json runs.csv --out costs.csv --dataset-size 100000 --price-per-kwh 0.30 --currency EUR",
        "joulelaw predict law.json --model bert-large-uncased --gpu-model 'NVIDIA A100-SXM4-80GB' --gpu-count 8 "
        "--strategy fsdp --micro-batch-size 16 --sequence-length 384 --precision bf16 --dataset-size 100000 --epochs 3 "
        "--price-per-kwh 0.30 --price-per-gpu-hour 2.5 --currency EUR --grid-intensity 380",
        "joulelaw predict law.json --model gpt2 --gpu-model 'Tesla T4' --micro-batch-size 4 --sequence-length 512 "
        "--precision fp16 --grad-accumulation 8 --steps 500",
    ),
    "recommend": (
        "joulelaw recommend law.json --model bert-base-uncased --sequence-length 128 --dataset-size 100000 --epochs 3",
        "joulelaw recommend law.json --parameters 50M..90M --sequence-length 128 --dataset-size 9000 --global-batch 64",
    ),
    "calibrate": (
        "joulelaw calibrate law.json new_hardware",
        "joulelaw calibrate law.json new_hardware --into results/lab/new_gpu --out calibrated.json --tolerance 1.4",
    ),
    "devices": (
        "joulelaw devices",
        "joulelaw devices a100",
        "joulelaw devices 'NVIDIA B200' --draft 'NVIDIA B300' --out drafted.toml",
    ),
    "export": (
        "joulelaw export law.json --format csv",
        "joulelaw export law.json --format parquet --out coefficients.parquet",
        "joulelaw export default --format csv",
        "joulelaw export --schema --out law.schema.json",
    ),
    "meter": (
        "joulelaw meter -- python train.py",
        "joulelaw meter --seconds 30 --idle-seconds 10 --out readings.parquet",
        "joulelaw meter --cpu-w-per-core 10 -- python train.py --epochs 3",
    ),
    "report": (
        "joulelaw report results/lab/my_sweep",
        "joulelaw report results/lab/my_sweep --law law.json --validation validation.json --out report.html",
    ),
}


def epilog(command: str) -> str:
    """The examples as the end of a command's help; the \\b keeps the lines as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])
