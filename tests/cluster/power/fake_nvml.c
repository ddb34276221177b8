/* A meter with a known truth: NVML's symbols over devices that draw a waveform whose energy has a closed form.
 *
 * FAKE_NVML names a file: first "origin_ns=<CLOCK_MONOTONIC>", then a line a device of key=value pairs joined by ';'.
 *   uuid, name, memory_mb, limit_w      what the device says of itself
 *   low_w, high_w, period_ms, duty      a square wave from the origin on, high first; constant where the two are equal
 *   tick_ms                             the energy counter moves on so often (0: always)
 *   sensor_every_ms, sensor_over_ms     power is looked at so often, and is the mean of the last so many ms
 *   gain                                of counter and power alike
 *   counter, fields, power = 0          unsupported: energy counter, power fields, the older power call
 *   lost_s, reset_s, frozen_s           from then on: GPU lost; counter counts anew; nothing changes any more
 *   error_from_s, error_to_s            every call answers "Unknown Error" between the two
 *   slices                              cut by MIG into so many, which have no meter of their own
 * FAKE_NVML_INIT is the error code that initialisation answers; without FAKE_NVML no driver is loaded.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9,
       GPU_IS_LOST = 15, UNKNOWN = 999 };
enum { MAX_DEVICES = 16, MAX_SLICES = 7, FIELD_AVERAGE = 185, FIELD_INSTANT = 186, TYPE_UINT = 1 };

typedef struct device {
    char uuid[96], name[96];
    struct device *whole; /* of a slice; NULL for a GPU */
    double memory_mb, limit_w, low_w, high_w, period_ms, duty, tick_ms, sensor_every_ms, sensor_over_ms, gain;
    double counter, fields, power, lost_s, reset_s, frozen_s, error_from_s, error_to_s, slices;
} device;

typedef struct { /* nvmlFieldValue_t */
    uint32_t id, scope;
    int64_t timestamp, latency_us;
    int32_t type, status;
    union { double d; uint32_t ui; uint64_t ull; } value;
} field_value;

static device gpus[MAX_DEVICES], parts[MAX_DEVICES][MAX_SLICES];
static int gpu_count, users;
static int64_t origin_ns;

static const struct { const char *key; size_t offset; double otherwise; } NUMBERS[] = {
#define NUMBER(name, otherwise) {#name, offsetof(device, name), otherwise}
    NUMBER(memory_mb, 40960), NUMBER(limit_w, 400), NUMBER(low_w, 100), NUMBER(high_w, 100), NUMBER(period_ms, 1000),
    NUMBER(duty, 0.5), NUMBER(tick_ms, 100), NUMBER(sensor_every_ms, 100), NUMBER(sensor_over_ms, 25), NUMBER(gain, 1),
    NUMBER(counter, 1), NUMBER(fields, 1), NUMBER(power, 1), NUMBER(lost_s, INFINITY), NUMBER(reset_s, INFINITY),
    NUMBER(frozen_s, INFINITY), NUMBER(error_from_s, INFINITY), NUMBER(error_to_s, INFINITY), NUMBER(slices, 0),
};
enum { NUMBER_COUNT = sizeof NUMBERS / sizeof NUMBERS[0] };

static double *number(device *d, int i) { return (double *)((char *)d + NUMBERS[i].offset); }

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double s = ((int64_t)t.tv_sec * 1000000000 + t.tv_nsec - origin_ns) / 1e9;
    return s > 0 ? s : 0;
}

/* True energy (J) drawn from the origin to t. */
static double energy_j(const device *d, double t) {
    double period = d->period_ms / 1e3, high = period * d->duty, whole = floor(t / period), rest = t - whole * period;
    return d->low_w * t + (d->high_w - d->low_w) * (whole * high + fmin(rest, high));
}

static double shown_counter_j(const device *d, double t) {
    t = fmin(t, d->frozen_s);
    double tick = d->tick_ms / 1e3, at = tick > 0 ? floor(t / tick) * tick : t;
    return d->gain * (energy_j(d, at) - (at >= d->reset_s ? energy_j(d, d->reset_s) : 0));
}

static double shown_power_w(const device *d, double t, double over_s) {
    double every = d->sensor_every_ms / 1e3, at = floor(fmin(t, d->frozen_s) / every) * every;
    double from = fmax(0, at - over_s);
    return at > from ? d->gain * (energy_j(d, at) - energy_j(d, from)) / (at - from) : d->gain * d->high_w;
}

static int status(const device *d) {
    double t = now_s();
    if (!users) return UNINITIALIZED;
    if (!d) return INVALID_ARGUMENT;
    if (t >= d->lost_s) return GPU_IS_LOST;
    if (t >= d->error_from_s && t < d->error_to_s) return UNKNOWN;
    return SUCCESS;
}

static int metered(const device *d, double supported) {
    int found = status(d);
    return found != SUCCESS ? found : d->whole || supported == 0 ? NOT_SUPPORTED : SUCCESS;
}

static void set(device *d, const char *key, const char *value) {
    if (!strcmp(key, "uuid")) snprintf(d->uuid, sizeof d->uuid, "%s", value);
    else if (!strcmp(key, "name")) snprintf(d->name, sizeof d->name, "%s", value);
    else {
        int i = 0;
        while (i < NUMBER_COUNT && strcmp(NUMBERS[i].key, key)) i++;
        if (i == NUMBER_COUNT) { fprintf(stderr, "fake_nvml: unknown key %s\n", key); abort(); }
        *number(d, i) = atof(value);
    }
}

static void cut(int g) {
    for (int s = 0; s < (int)gpus[g].slices; s++) {
        device *part = &parts[g][s];
        *part = gpus[g];
        part->whole = &gpus[g];
        part->memory_mb = gpus[g].memory_mb / gpus[g].slices;
        snprintf(part->uuid, sizeof part->uuid, "MIG-%d-%.80s", s, gpus[g].uuid);
        snprintf(part->name, sizeof part->name, "%.80s MIG 1g.5gb", gpus[g].name);
    }
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML");
    if (getenv("FAKE_NVML_INIT")) return atoi(getenv("FAKE_NVML_INIT"));
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    char line[1024];
    gpu_count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "origin_ns=%ld", &origin_ns) == 1) continue;
        device *d = &gpus[gpu_count];
        memset(d, 0, sizeof *d);
        for (int i = 0; i < NUMBER_COUNT; i++) *number(d, i) = NUMBERS[i].otherwise;
        for (char *at, *pair = strtok_r(line, ";", &at); pair; pair = strtok_r(NULL, ";", &at)) {
            char *equals = strchr(pair, '=');
            *equals = 0;
            set(d, pair, equals + 1);
        }
        cut(gpu_count++);
    }
    fclose(file);
    users++;
    return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return users ? (users--, SUCCESS) : UNINITIALIZED; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "999.1"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = gpu_count; return users ? SUCCESS : UNINITIALIZED; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle) {
    if ((int)index >= gpu_count) return INVALID_ARGUMENT;
    *handle = &gpus[index];
    return status(*handle);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **handle) {
    for (int g = 0; g < gpu_count; g++) {
        if (!strcmp(gpus[g].uuid, uuid)) return *handle = &gpus[g], status(*handle);
        for (int s = 0; s < (int)gpus[g].slices; s++)
            if (!strcmp(parts[g][s].uuid, uuid)) return *handle = &parts[g][s], status(*handle);
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(device *d, char *text, unsigned size) { snprintf(text, size, "%s", d->uuid); return status(d); }
int nvmlDeviceGetName(device *d, char *text, unsigned size) { snprintf(text, size, "%s", d->name); return status(d); }

int nvmlDeviceGetMemoryInfo(device *d, uint64_t memory[3]) {
    memory[0] = memory[1] = (uint64_t)(d->memory_mb * 1024 * 1024);
    memory[2] = 0;
    return status(d);
}

int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) {
    *mw = (unsigned)(d->limit_w * 1e3);
    return metered(d, 1);
}

int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    *major = 8;
    *minor = 6;
    return status(d);
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = 50;
    return metered(d, 1);
}

int nvmlDeviceGetTotalEnergyConsumption(device *d, uint64_t *mj) {
    int found = metered(d, d->counter);
    if (found == SUCCESS) *mj = (uint64_t)llround(shown_counter_j(d, now_s()) * 1e3);
    return found;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *mw) {
    int found = metered(d, d->power);
    if (found == SUCCESS) *mw = (unsigned)lround(shown_power_w(d, now_s(), d->sensor_over_ms / 1e3) * 1e3);
    return found;
}

int nvmlDeviceGetFieldValues(device *d, int count, field_value *values) {
    int found = status(d);
    for (int i = 0; found == SUCCESS && i < count; i++) {
        int is_power = values[i].id == FIELD_INSTANT || values[i].id == FIELD_AVERAGE;
        double over_s = values[i].id == FIELD_AVERAGE ? 1.0 : d->sensor_over_ms / 1e3;
        values[i].status = is_power ? metered(d, d->fields) : INVALID_ARGUMENT;
        values[i].type = TYPE_UINT;
        if (values[i].status == SUCCESS) values[i].value.ui = (uint32_t)lround(shown_power_w(d, now_s(), over_s) * 1e3);
    }
    return found;
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    *current = *pending = d->slices > 0;
    return status(d);
}

int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) { *count = MAX_SLICES; return status(d); }

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **part) {
    if (index >= (unsigned)d->slices) return NOT_FOUND;
    *part = &parts[d - gpus][index];
    return status(*part);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *part, device **whole) {
    if (!part->whole) return INVALID_ARGUMENT;
    *whole = part->whole;
    return status(*whole);
}
