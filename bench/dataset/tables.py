"""The Arrow schemas of a dataset's tables, with units in the field metadata and one schema version."""

import pyarrow as pa

SCHEMA_VERSION = 5


def _field(name: str, kind: pa.DataType, unit: str = "", note: str = "") -> pa.Field:
    metadata = {key: value for key, value in (("unit", unit), ("note", note)) if value}
    return pa.field(name, kind, metadata=metadata or None)


def _schema(fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"joulelaw_schema": str(SCHEMA_VERSION)})


_KEY = [
    _field("trial_id", pa.string(), note="configuration id and repeat"),
    _field("attempt", pa.int32(), "1", "0 for the first try; a retried trial's later tries count up"),
]

# One row a finished trial (attempt). The first part is the measurement table of the design.
TRIALS = _schema(
    [
        *_KEY,
        _field("gpu_model", pa.string(), note="as NVML names it, or the CPU's name and cores of a logical device"),
        _field("gpu_count", pa.int32(), "1", "devices of the group"),
        _field("node_count", pa.int32(), "1", "nodes that they are on"),
        _field("strategy", pa.string(), note="single, ddp, fsdp, tp, fsdp_tp, zero1, zero2 or zero3"),
        _field("model_family", pa.string(), note="bert, gpt2, lstm or gru"),
        _field("num_layers", pa.int32(), "1", "layers"),
        _field("hidden_size", pa.int32(), "1", "width"),
        _field("num_heads", pa.int32(), "1", "attention heads; 1 for a recurrent network"),
        _field(
            "intermediate_size",
            pa.int32(),
            "1",
            "width of the feed-forward layer; of a recurrent layer, of all its gates",
        ),
        _field("vocab_size", pa.int32(), "1", "entries of the embedding"),
        _field("sequence_length", pa.int32(), "token", "padded"),
        _field("micro_batch_size", pa.int32(), "sequence", "per data-parallel rank"),
        _field("grad_accumulation", pa.int32(), "1", "micro-steps per step"),
        _field("precision", pa.string(), note="fp32, tf32, fp16 or bf16"),
        _field("micro_steps", pa.int64(), "1", "per rank, in the measured window"),
        _field("duration_s", pa.float64(), "s", "of the measured window"),
        _field("energy_j", pa.float64(), "J", "gross, all devices of the group; null when there was no reading"),
        _field("boundary", pa.string(), note="what energy_j covers"),
        _field("meter", pa.string(), note="the meter that energy_j comes from"),
        _field("meter_kind", pa.string(), note="measured, estimated, replayed; stated: an import does not say"),
        # How the energy was made, and whether to believe it.
        _field("energy_trace_j", pa.float64(), "J", "integrated from power readings, beside the counter"),
        _field("energy_disagreement", pa.float64(), "1", "(trace - counter) / counter"),
        _field("energy_stderr_j", pa.float64(), "J", "random part, from the spacing of the readings"),
        _field(
            "energy_systematic",
            pa.float64(),
            "1",
            "relative: the most that the sensors' gain may put energy_j off, the same in every trial; null: unknown",
        ),
        _field("verdict", pa.string(), note="valid or invalid"),
        _field("reasons", pa.list_(pa.string()), note="codes of an invalid verdict, or remarks on a valid row"),
        # What ran, where and how.
        _field("status", pa.string(), note="done or failed"),
        _field("failure", pa.string(), note="cause of a failure, empty otherwise"),
        _field("split", pa.string(), note="fit or hold_out, drawn before the first trial; null where none was"),
        _field("configuration_id", pa.string(), note="hash of the configuration: everything but the repeat"),
        _field("case_id", pa.string(), note="hash of the case: what fit and hold-out never share"),
        _field("repeat", pa.int32(), "1", "counts from 0"),
        _field("seed", pa.int64(), "1", "of weights, data and dropout"),
        _field("num_labels", pa.int32(), "1", "classes of the classifier"),
        _field("dropout", pa.float64(), "1", "probability, hidden and attention"),
        _field("attention", pa.string(), note="sdpa or eager"),
        _field("learning_rate", pa.float64(), "1", "of the optimizer"),
        _field("head", pa.string(), note="classification or language_model"),
        _field("tensor_parallel", pa.int32(), "1", "ranks that share each layer"),
        _field("activation_checkpointing", pa.bool_(), note="activations are computed anew in the backward pass"),
        _field("torch_compile", pa.bool_(), note="the model was compiled"),
        _field("checkpoint", pa.string(), note="folder of the saved model, relative to the sweep's; empty: none"),
        _field("data", pa.string(), note="synthetic, or the text file, relative to the sweep's folder"),
        _field("num_parameters", pa.int64(), "1", "of the whole model"),
        _field("warmup_steps", pa.int32(), "1", "before the window"),
        _field("measured_steps", pa.int32(), "1", "of the window"),
        _field("skipped_steps", pa.int32(), "1", "of the measured steps, those whose fp16 gradients overflowed"),
        _field("tokens", pa.int64(), "token", "of the window, all data-parallel ranks, without padding"),
        _field("padded_tokens", pa.int64(), "token", "of the window, all data-parallel ranks, as computed"),
        _field("step_s_median", pa.float64(), "s", "rank 0's measured steps"),
        _field("window_begin_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the first node"),
        _field("window_end_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the first node"),
        _field("started_at", pa.timestamp("ms", tz="UTC"), note="when the trial was launched"),
        _field("trial_s", pa.float64(), "s", "from launch to last event, set-up included"),
        _field("loss_first", pa.float64(), "1", "rank 0, first step of the trial"),
        _field("loss_last", pa.float64(), "1", "rank 0, last step of the trial"),
        _field(
            "peak_memory_bytes",
            pa.int64(),
            "B",
            "of the largest rank: allocated on CUDA; on CPU resident without files, in one more step after the window",
        ),
        _field("base_memory_bytes", pa.int64(), "B", "of the same rank before its model: the libraries, on CPU"),
        _field("nodes", pa.list_(pa.string()), note="their names"),
        _field("device_uuids", pa.list_(pa.string()), note="as in the power table"),
        _field("threads_per_rank", pa.int32(), "1", "CPU threads of each rank"),
        _field("backend", pa.string(), note="nccl, gloo, or empty for one process"),
        _field("shared_with", pa.list_(pa.string()), note="trials that ran on the same node at the same time"),
        _field("power_limit_w", pa.float64(), "W", "per device, enforced limit; null where unknown"),
        # What imported tables may say beyond that.
        _field("repeats", pa.int32(), "1", "runs that the row is the mean of"),
        _field("parallel_efficiency", pa.float64(), "1", "P1's, not normalised for work"),
        _field("energy_net_j", pa.float64(), "J", "less the idle power of the same devices over the same time"),
        _field("link", pa.string(), note="kind of link between the devices of a node"),
        _field("link_bytes_per_s", pa.float64(), "B/s", "one direction, per device"),
        _field("network_bytes_per_s", pa.float64(), "B/s", "between nodes, one direction, per device"),
        _field("input_size", pa.int32(), "1", "width of a recurrent layer's input; null: hidden_size"),
        # What was around the measurement. Null where nothing tells.
        _field("energy_others_j", pa.float64(), "J", "other GPUs of its nodes that no trial held, over the window"),
        _field("host_cpu_j", pa.float64(), "J", "CPU packages of its nodes (RAPL), over the window"),
        _field("host_dram_j", pa.float64(), "J", "DRAM of its nodes (RAPL), over the window"),
        _field("temperature_begin_c", pa.float64(), "degC", "warmest device as the window began"),
        _field("temperature_max_c", pa.float64(), "degC", "warmest device in the window"),
        _field("clock_mhz_mean", pa.float64(), "MHz", "SM clock, over the window and the devices"),
        _field("warmup_s", pa.float64(), "s", "from the first step to the window, rank 0"),
        _field("cooldown_s", pa.float64(), "s", "waited for the devices to cool before the trial; null: not asked for"),
        _field("jitter_s", pa.float64(), "s", "pause after each step, against aliasing with the sensor; 0: none"),
        # Of the cluster it ran on. Null before schema 5, and where nothing tells.
        _field("cause", pa.string(), note="of a failure, as one word: rank_crash, out_of_memory, hang, node_lost, ..."),
        _field("driver", pa.string(), note="NVML driver versions of the group's nodes, joined with +"),
        _field("transport", pa.string(), note="what the devices' messages went over; several: joined with +"),
        # Measured in the set-up of the first trial on these devices: not known before a run, so no law reads them.
        _field("probed_link_bytes_per_s", pa.float64(), "B/s", "within nodes, one direction, per device"),
        _field("probed_network_bytes_per_s", pa.float64(), "B/s", "between nodes, one direction, per device"),
        _field("log", pa.string(), note="the log that tells most of a failure, relative to the dataset"),
    ]
)

# One row a step and rank, warm-up included.
STEPS = _schema(
    [
        *_KEY,
        _field("rank", pa.int32(), "1", "of the trial's group, from 0"),
        _field("step", pa.int32(), "1", "counts from 0, warm-up included"),
        _field("measured", pa.bool_(), note="False for warm-up"),
        _field("begin_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the rank's node"),
        _field("end_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the rank's node"),
        _field("loss", pa.float64(), "1", "null where it was not read back"),
    ]
)

# One row a reading of one device while a trial held it.
POWER = _schema(
    [
        *_KEY,
        _field("node", pa.string(), note="its name"),
        _field("device_uuid", pa.string(), note="the device read"),
        _field("meter", pa.string(), note="that read it"),
        _field("time_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the node, when the reading was taken"),
        _field("power_w", pa.float64(), "W", "null where the meter has only a counter"),
        _field("energy_counter_j", pa.float64(), "J", "since an arbitrary zero; null where there is no counter"),
        _field("temperature_c", pa.float64(), "degC", "of the device"),
        _field("clock_mhz", pa.float64(), "MHz", "SM clock; about once a second, null between"),
        _field("throttle", pa.int64(), "1", "NVML's clocks-event reasons, a bit mask; about once a second"),
        _field("foreign_processes", pa.int32(), "1", "on the device that are not the trial's; about once a second"),
        _field("error", pa.string(), note="empty, or why this reading failed"),
    ]
)

# One row a metered domain and session (one run of the program): its meter, its sensor, and its power at idle.
METERS = _schema(
    [
        _field("node", pa.string(), note="its name"),
        _field("domain", pa.string(), note="as device_uuid in the power table"),
        _field("role", pa.string(), note="device: the study's; gpu, cpu, dram: beside them"),
        _field("meter", pa.string(), note="its name"),
        _field("meter_kind", pa.string(), note="measured, estimated, replayed or none"),
        _field("boundary", pa.string(), note="what its joules cover"),
        _field("description", pa.string(), note="where its numbers come from, in words"),
        _field("sensor_class", pa.string(), note="by the model's name; empty: unknown"),
        _field("power_source", pa.string(), note="the call or field that gives power"),
        _field("counter_tick_s", pa.float64(), "s", "the energy counter moves on so often; 0: continuously"),
        _field("power_update_s", pa.float64(), "s", "the power reading changes so often"),
        _field("power_averaged_s", pa.float64(), "s", "a power reading is the mean over so long"),
        _field("gain_bound", pa.float64(), "1", "relative systematic error stated for the class"),
        _field("idle_w", pa.float64(), "W", "before the first trial; null: not measured"),
        _field("idle_stderr_w", pa.float64(), "W", "its random part"),
        _field("idle_temperature_c", pa.float64(), "degC", "of the device, while idle power was measured"),
        _field("clock_offset_ns", pa.int64(), "ns", "the node's CLOCK_MONOTONIC less the driver's"),
        _field("clock_error_ns", pa.int64(), "ns", "half the round trip of the offset's measurement"),
        _field("started_at", pa.timestamp("ms", tz="UTC"), note="when the session began"),
    ]
)

# One row for whatever happened to the study: runs, nodes, attempts.
EVENTS = _schema(
    [
        _field("time", pa.timestamp("ms", tz="UTC"), note="by the driver's clock"),
        _field("time_ns", pa.int64(), "ns", "CLOCK_MONOTONIC of the study's driver"),
        _field("kind", pa.string(), note="run_began, run_ended, node_joined, node_lost, attempt_began, ..."),
        _field("trial_id", pa.string(), note="of an attempt; null else"),
        _field("attempt", pa.int32(), "1", "of the trial; null else"),
        _field("nodes", pa.list_(pa.string()), note="that it is about"),
        _field("device_uuids", pa.list_(pa.string()), note="that it is about"),
        _field("cause", pa.string(), note="as in the trials table"),
        _field("detail", pa.string(), note="in words"),
        _field("retried", pa.bool_(), note="whether the trial is tried again in this run"),
    ]
)

# One row a timing of one operation alone, as Parquet in operations/; its sizes are null where they have no meaning.
OPERATIONS = _schema(
    [
        _field("gpu_model", pa.string(), note="as in the trials table"),
        _field("model_family", pa.string(), note="what the operation belongs to: transformer, lstm or gru"),
        _field("operation", pa.string(), note="its name, as in model/operations.py"),
        _field("precision", pa.string(), note="as in the trials table"),
        _field("flop", pa.float64(), "FLOP", "of the one timed call"),
        _field("duration_s", pa.float64(), "s", "of the one call, isolated and synchronized"),
        _field("micro_batch_size", pa.int32(), "sequence", "of the call"),
        _field("sequence_length", pa.int32(), "token", "of the call"),
        _field("hidden_size", pa.int32(), "1", "width"),
        _field("input_size", pa.int32(), "1", "width of a recurrent layer's input"),
    ]
)

TABLES = {"trials": TRIALS, "steps": STEPS, "power": POWER, "meters": METERS, "events": EVENTS}
