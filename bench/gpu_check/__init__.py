"""What a study needs of a GPU, checked on one: numbers, meter, peaks, steps, and a sweep; in slices, without Ray.

`python -m joulelaw.bench.gpu_check` works through the steps below, each in parts, and writes every part's result as it
comes; what is there already is not measured again. On processor cores it is a dry run, in a folder of its own.

    equal    training on the device gives the numbers that the CPU gives, per precision, attention and torch.compile
    meter    idle power; the counter beside the trace under real loads; ticks and updates; what sampling costs a step
    peaks    the fastest matrix products and copy, beside the device's data sheet
    steps    time and energy of a step of BERT-base and BERT-large, beside a loop of plain PyTorch in the same minute
    sweep    a study sized to the device by a rule, fitted and validated
    summary  report.md, and a line for results/LOG.md
"""
