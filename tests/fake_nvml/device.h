/* A device whose true energy has a closed form: its waveform, and what its counter and its sensor show of it. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BURSTS = 32, MAX_PIDS = 16 };
enum { CONSTANT, SQUARE, RAMP, BURST };

typedef struct { /* of a power sensor: it looks every so often, at the mean of the last so many ms */
    const char *name;
    double every_ms, over_ms;
    int averages; /* it has a 1 s average too, and the older call means that one */
    int major, minor, architecture; /* compute capability and nvmlDeviceArchitecture_t */
} sensor_class;

/* arXiv 2312.02741, and what NVML's header says of its two power fields. */
static const sensor_class CLASSES[] = {
    {"a100", 100, 25, 0, 8, 0, 7}, {"v100", 20, 10, 0, 7, 0, 5},     {"turing", 100, 100, 0, 7, 5, 6},
    {"h100", 100, 25, 1, 9, 0, 9}, {"ampere", 100, 100, 1, 8, 6, 7},
};
enum { CLASS_COUNT = sizeof CLASSES / sizeof CLASSES[0] };

typedef struct device {
    char uuid[96], name[96], driver[32], pci[20], path[32], nvlinks[128];
    struct device *whole; /* of a slice; NULL for a GPU */
    const sensor_class *sensor;
    int wave, burst_count, pid_count;
    double burst_at_s[MAX_BURSTS], burst_for_s[MAX_BURSTS];
    unsigned pids[MAX_PIDS];
#define NUMBERS(NUMBER)                                                                                              \
    NUMBER(memory_mb, 40960) NUMBER(limit_w, 400) NUMBER(low_w, 100) NUMBER(high_w, 100) NUMBER(period_ms, 1000)     \
    NUMBER(phase_ms, 0) NUMBER(duty, 0.5) NUMBER(gain, 1) NUMBER(seed, 0)                                            \
    NUMBER(tick_ms, 100) NUMBER(tick_phase_ms, 0) NUMBER(tick_jitter_ms, 0)                                          \
    NUMBER(sensor_every_ms, -1) NUMBER(sensor_over_ms, -1) NUMBER(sensor_phase_ms, 0)                                \
    NUMBER(counter, 1) NUMBER(fields, 1) NUMBER(power, 1) NUMBER(conditions, 1) NUMBER(slices, 0)                    \
    NUMBER(lost_s, INFINITY) NUMBER(reset_s, INFINITY) NUMBER(frozen_s, INFINITY)                                    \
    NUMBER(counter_frozen_s, INFINITY) NUMBER(power_frozen_s, INFINITY)                                              \
    NUMBER(error_from_s, INFINITY) NUMBER(error_to_s, INFINITY) NUMBER(error_code, 999)                              \
    NUMBER(heat_from_s, INFINITY) NUMBER(heat_to_s, INFINITY) NUMBER(cap_from_s, INFINITY)                           \
    NUMBER(cap_to_s, INFINITY) NUMBER(foreign_pid, 4194300) NUMBER(foreign_from_s, INFINITY)                         \
    NUMBER(foreign_to_s, INFINITY) NUMBER(clock_mhz, 1410) NUMBER(temperature_c, 50) NUMBER(warms_by_c, 0)           \
    NUMBER(warms_over_s, 10) NUMBER(pcie_generation, 4) NUMBER(pcie_lanes, 16) NUMBER(p2p, 1)
#define FIELD(name, otherwise) double name;
    NUMBERS(FIELD)
} device;

static const struct { const char *key; size_t offset; double otherwise; } NUMBER_KEYS[] = {
#define KEY(name, otherwise) {#name, offsetof(device, name), otherwise},
    NUMBERS(KEY)
};
enum { NUMBER_COUNT = sizeof NUMBER_KEYS / sizeof NUMBER_KEYS[0] };

static double *number(device *d, int i) { return (double *)((char *)d + NUMBER_KEYS[i].offset); }

static void clear(device *d) {
    memset(d, 0, sizeof *d);
    d->wave = SQUARE;
    d->sensor = &CLASSES[0];
    for (int i = 0; i < NUMBER_COUNT; i++) *number(d, i) = NUMBER_KEYS[i].otherwise;
}

static void refuse(const char *what, const char *text) { fprintf(stderr, "fake NVML: %s %s\n", what, text); abort(); }

static void set_bursts(device *d, const char *text) { /* "begin:length,begin:length,..." in ms */
    for (int used; *text; text += used + (text[used] == ',')) {
        double at_ms, for_ms;
        if (d->burst_count == MAX_BURSTS || sscanf(text, "%lf:%lf%n", &at_ms, &for_ms, &used) != 2) refuse("bursts", text);
        d->burst_at_s[d->burst_count] = at_ms / 1e3;
        d->burst_for_s[d->burst_count++] = for_ms / 1e3;
    }
}

static void set_pids(device *d, const char *text) { /* "1,2,..." */
    for (int used; *text; text += used + (text[used] == ','))
        if (d->pid_count == MAX_PIDS || sscanf(text, "%u%n", &d->pids[d->pid_count++], &used) != 1) refuse("pids", text);
}

static void set(device *d, const char *key, const char *value) {
    static const char *const WAVES[] = {"constant", "square", "ramp", "burst"};
    int i = 0;
    if (!strcmp(key, "uuid")) snprintf(d->uuid, sizeof d->uuid, "%s", value);
    else if (!strcmp(key, "name")) snprintf(d->name, sizeof d->name, "%s", value);
    else if (!strcmp(key, "driver")) snprintf(d->driver, sizeof d->driver, "%s", value);
    else if (!strcmp(key, "pci")) snprintf(d->pci, sizeof d->pci, "%s", value);
    else if (!strcmp(key, "path")) snprintf(d->path, sizeof d->path, "%s", value);
    else if (!strcmp(key, "nvlinks")) snprintf(d->nvlinks, sizeof d->nvlinks, "%s", value);
    else if (!strcmp(key, "bursts")) set_bursts(d, value);
    else if (!strcmp(key, "pids")) set_pids(d, value);
    else if (!strcmp(key, "wave")) {
        while (i <= BURST && strcmp(WAVES[i], value)) i++;
        if (i > BURST) refuse("unknown wave", value);
        d->wave = i;
    } else if (!strcmp(key, "sensor")) {
        while (i < CLASS_COUNT && strcmp(CLASSES[i].name, value)) i++;
        if (i == CLASS_COUNT) refuse("unknown sensor", value);
        d->sensor = &CLASSES[i];
    } else {
        while (i < NUMBER_COUNT && strcmp(NUMBER_KEYS[i].key, key)) i++;
        if (i == NUMBER_COUNT) refuse("unknown key", key);
        *number(d, i) = atof(value);
    }
}

/* For how long the device would have drawn its high power, from the beginning of a period to `rest` s into it. */
static double high_s(const device *d, double rest, double period) {
    double up = period * d->duty, down = period - up, sum = 0;
    switch (d->wave) {
    case SQUARE: return fmin(rest, up);
    case RAMP: /* straight up to the high power for `duty` of the period, and straight down again */
        if (rest < up) return rest * rest / (2 * up);
        return up / 2 + (down > 0 ? (down * down - (period - rest) * (period - rest)) / (2 * down) : 0);
    case BURST:
        for (int i = 0; i < d->burst_count; i++) sum += fmin(fmax(0, rest - d->burst_at_s[i]), d->burst_for_s[i]);
        return sum;
    default: return 0;
    }
}

static double drawn_j(const device *d, double t) {
    double period = d->period_ms / 1e3, whole = floor(t / period), rest = t - whole * period;
    return d->low_w * t + (d->high_w - d->low_w) * (whole * high_s(d, period, period) + high_s(d, rest, period));
}

/* True energy (J) drawn from the origin to t. */
static double energy_j(const device *d, double t) {
    return drawn_j(d, t + d->phase_ms / 1e3) - drawn_j(d, d->phase_ms / 1e3);
}

/* Between -0.5 and 0.5, the same for the same tick: splitmix64 (Steele et al., OOPSLA 2014). */
static double wobble(int64_t tick, double seed) {
    uint64_t z = (uint64_t)tick + (uint64_t)(seed + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0 - 0.5;
}

/* When the counter last moved on, at t or before. */
static double last_tick_s(const device *d, double t) {
    if (d->tick_ms <= 0) return t;
    double tick = d->tick_ms / 1e3, phase = d->tick_phase_ms / 1e3, jitter = d->tick_jitter_ms / 1e3, at;
    int64_t k = (int64_t)floor((t - phase) / tick) + 1;
    while ((at = phase + k * tick + jitter * wobble(k, d->seed)) > t) k--;
    return fmax(0, at);
}

static double shown_counter_j(const device *d, double t) {
    double at = last_tick_s(d, fmin(t, fmin(d->frozen_s, d->counter_frozen_s)));
    return d->gain * (energy_j(d, at) - (at >= d->reset_s ? energy_j(d, d->reset_s) : 0));
}

/* What the sensor shows, over the last `over_s` before it looked, or over its own time. */
static double shown_power_w(const device *d, double t, double over_s) {
    double every = (d->sensor_every_ms >= 0 ? d->sensor_every_ms : d->sensor->every_ms) / 1e3;
    double phase = d->sensor_phase_ms / 1e3, until = fmin(t, fmin(d->frozen_s, d->power_frozen_s));
    double over = over_s > 0 ? over_s : (d->sensor_over_ms >= 0 ? d->sensor_over_ms : d->sensor->over_ms) / 1e3;
    double looked = every > 0 ? floor((until - phase) / every) * every + phase : until;
    double at = fmax(looked, 1e-3), from = fmax(0, at - over);
    return d->gain * (energy_j(d, at) - energy_j(d, from)) / (at - from);
}
