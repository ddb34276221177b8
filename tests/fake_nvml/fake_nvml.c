/* A meter with a known truth: NVML's symbols over the devices of device.h.
 *
 * FAKE_NVML names a file: first "origin_ns=<CLOCK_MONOTONIC>", then a line a device of key=value pairs joined by ';'.
 *   uuid, name, memory_mb, limit_w      what the device says of itself
 *   wave                                constant (low_w), square (high first, for `duty` of the period), ramp (up for
 *                                       `duty` of the period, then down) or burst (high in the bursts, otherwise low)
 *   low_w, high_w, period_ms, duty      of the wave, which begins at the origin, `phase_ms` into it
 *   bursts                              "begin:length,..." in ms within the period
 *   tick_ms                             the energy counter moves on so often (0: always), at tick_phase_ms first, each
 *                                       tick up to tick_jitter_ms / 2 early or late, as `seed` has it
 *   sensor                              a100, v100, turing, ampere or h100: what power reading there is, and of when
 *   sensor_every_ms, _over_ms, _phase_ms   in its place
 *   gain                                of counter and power alike
 *   counter, fields, power, conditions = 0   unsupported: energy counter, power fields, the older power call, clocks
 *                                       with their reasons and the list of processes
 *   lost_s, reset_s, frozen_s           from then on: GPU lost; counter counts anew; nothing changes any more
 *   counter_frozen_s, power_frozen_s    one of the two does not
 *   error_from_s, error_to_s            every call answers error_code ("Unknown Error") between the two
 *   heat_from_s, cap_from_s, and _to_s  clocks are held down by heat, by the power limit
 *   pids, foreign_pid, foreign_from_s, foreign_to_s   processes at work, always and between the two
 *   clock_mhz, temperature_c, warms_by_c, warms_over_s   SM clock; temperature at the origin, and how it grows
 *   slices                              cut by MIG into so many, which have no meter of their own
 *   driver                              its version, which is the first device's for the whole library
 *   pci, path, nvlinks, p2p, pcie_*     how it is joined to the others: see links.h
 * All *_s count from the origin. FAKE_NVML_INIT is the error code that initialisation answers; without FAKE_NVML no
 * driver is loaded.
 */
#include <time.h>

#include "device.h"

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { MAX_DEVICES = 16, MAX_SLICES = 7, FIELD_ENERGY = 83, FIELD_AVERAGE = 185, FIELD_INSTANT = 186, TYPE_UINT = 1,
       TYPE_ULONG_LONG = 3 };
enum { REASON_POWER_CAP = 0x4, REASON_HEAT = 0x20 };

typedef struct { /* nvmlFieldValue_t */
    uint32_t id, scope;
    int64_t timestamp, latency_us;
    int32_t type, status;
    union { double d; uint32_t ui; uint64_t ull; } value;
} field_value;

typedef struct { uint32_t pid; uint64_t used_bytes; uint32_t gpu_instance, compute_instance; } process; /* _v2, _v3 */

static device gpus[MAX_DEVICES], parts[MAX_DEVICES][MAX_SLICES];
static int gpu_count, users;
static int64_t origin_ns;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double s = ((int64_t)t.tv_sec * 1000000000 + t.tv_nsec - origin_ns) / 1e9;
    return s > 0 ? s : 0;
}

static int between(double from, double to) { double t = now_s(); return t >= from && t < to; }

static int status(const device *d) {
    if (!users) return UNINITIALIZED;
    if (!d) return INVALID_ARGUMENT;
    if (now_s() >= d->lost_s) return GPU_IS_LOST;
    return between(d->error_from_s, d->error_to_s) ? (int)d->error_code : SUCCESS;
}

static int metered(const device *d, double supported) {
    int found = status(d);
    return found != SUCCESS ? found : d->whole || supported == 0 ? NOT_SUPPORTED : SUCCESS;
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

static void load(FILE *file) {
    char line[4096];
    gpu_count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "origin_ns=%ld", &origin_ns) == 1) continue;
        device *d = &gpus[gpu_count];
        clear(d);
        for (char *at, *pair = strtok_r(line, ";", &at); pair; pair = strtok_r(NULL, ";", &at)) {
            char *equals = strchr(pair, '=');
            if (!equals) refuse("no value in", pair);
            *equals = 0;
            set(d, pair, equals + 1);
        }
        if (!d->pci[0]) snprintf(d->pci, sizeof d->pci, "00000000:%02X:00.0", gpu_count + 1);
        cut(gpu_count++);
    }
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML");
    if (getenv("FAKE_NVML_INIT")) return atoi(getenv("FAKE_NVML_INIT"));
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    if (!users++) load(file);
    fclose(file);
    return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return users ? (users--, SUCCESS) : UNINITIALIZED; }

/* Not NVML's: the truth, for the test that compares it with Python's. */
double fake_energy_j(int gpu, double t) { return energy_j(&gpus[gpu], t); }
double fake_last_tick_s(int gpu, double t) { return last_tick_s(&gpus[gpu], t); }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "%s", gpu_count && gpus[0].driver[0] ? gpus[0].driver : "999.1");
    return SUCCESS;
}
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { snprintf(text, size, "12.999.1"); return SUCCESS; }
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
int nvmlDeviceGetIndex(device *d, unsigned *index) { *index = (d->whole ? d->whole : d) - gpus; return status(d); }

int nvmlDeviceGetMemoryInfo(device *d, uint64_t memory[3]) {
    memory[0] = memory[1] = (uint64_t)(d->memory_mb * 1024 * 1024);
    memory[2] = 0;
    return status(d);
}

static int limit_mw(device *d, unsigned *mw) { *mw = (unsigned)(d->limit_w * 1e3); return metered(d, 1); }
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) { return limit_mw(d, mw); }
int nvmlDeviceGetPowerManagementLimit(device *d, unsigned *mw) { return limit_mw(d, mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(device *d, unsigned *mw) { return limit_mw(d, mw); }
int nvmlDeviceSetPowerManagementLimit(device *d, unsigned mw) { (void)d, (void)mw; return NO_PERMISSION; }

int nvmlDeviceGetPowerManagementLimitConstraints(device *d, unsigned *least_mw, unsigned *most_mw) {
    *least_mw = (unsigned)(d->limit_w * 250);
    return limit_mw(d, most_mw);
}

int nvmlDeviceGetPersistenceMode(device *d, int *mode) { *mode = 1; return metered(d, 1); }
int nvmlDeviceGetComputeMode(device *d, int *mode) { *mode = 0; return status(d); }
int nvmlDeviceGetArchitecture(device *d, unsigned *is) { *is = d->sensor->architecture; return status(d); }
int nvmlDeviceGetUtilizationRates(device *d, unsigned percent[2]) { percent[0] = percent[1] = 50; return metered(d, 1); }
int nvmlDeviceGetC2cModeInfoV(device *d, void *info) { (void)info; return metered(d, 0); }

int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    *major = d->sensor->major;
    *minor = d->sensor->minor;
    return status(d);
}

static double celsius(const device *d) {
    return d->temperature_c + d->warms_by_c * -expm1(-now_s() / d->warms_over_s);
}
int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *is_c) {
    (void)sensor;
    *is_c = (unsigned)lround(celsius(d));
    return metered(d, 1);
}
int nvmlDeviceGetTemperatureV(device *d, int found[3]) { found[2] = (int)lround(celsius(d)); return metered(d, 1); }

int nvmlDeviceGetCurrentClocksEventReasons(device *d, uint64_t *reasons) {
    *reasons = (between(d->cap_from_s, d->cap_to_s) ? REASON_POWER_CAP : 0) |
               (between(d->heat_from_s, d->heat_to_s) ? REASON_HEAT : 0);
    return metered(d, d->conditions);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, uint64_t *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(d, reasons);
}

int nvmlDeviceGetClockInfo(device *d, int clock, unsigned *mhz) {
    uint64_t reasons;
    (void)clock;
    nvmlDeviceGetCurrentClocksEventReasons(d, &reasons);
    *mhz = (unsigned)lround(d->clock_mhz * (reasons ? 0.7 : 1));
    return metered(d, d->conditions);
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *count, process *found) {
    unsigned is_foreign = between(d->foreign_from_s, d->foreign_to_s), all = d->pid_count + is_foreign, room = *count;
    int answer = status(d);
    if (answer != SUCCESS) return answer;
    if (d->conditions == 0) return NOT_SUPPORTED;
    *count = all;
    if (all > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < all; i++)
        found[i] = (process){i < (unsigned)d->pid_count ? d->pids[i] : (unsigned)d->foreign_pid, 1 << 20, ~0u, ~0u};
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v2(device *d, unsigned *count, process *found) {
    return nvmlDeviceGetComputeRunningProcesses_v3(d, count, found);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *count, process *found) {
    (void)found;
    *count = 0;
    return status(d);
}

int nvmlDeviceGetTotalEnergyConsumption(device *d, uint64_t *mj) {
    int found = metered(d, d->counter);
    if (found == SUCCESS) *mj = (uint64_t)llround(shown_counter_j(d, now_s()) * 1e3);
    return found;
}

static unsigned power_mw(const device *d, double over_s) { return (unsigned)lround(shown_power_w(d, now_s(), over_s) * 1e3); }

int nvmlDeviceGetPowerUsage(device *d, unsigned *mw) {
    int found = metered(d, d->power);
    if (found == SUCCESS) *mw = power_mw(d, d->sensor->averages ? 1 : 0);
    return found;
}

static void answer_field(device *d, field_value *field) {
    field->type = TYPE_UINT;
    switch (field->id) {
    case FIELD_INSTANT:
    case FIELD_AVERAGE:
        field->status = metered(d, d->fields != 0 && field->scope == 0 && (field->id == FIELD_INSTANT || d->sensor->averages));
        if (field->status == SUCCESS) field->value.ui = power_mw(d, field->id == FIELD_AVERAGE ? 1 : 0);
        return;
    case FIELD_ENERGY:
        field->type = TYPE_ULONG_LONG;
        field->status = nvmlDeviceGetTotalEnergyConsumption(d, &field->value.ull);
        return;
    default: field->status = INVALID_ARGUMENT;
    }
}

int nvmlDeviceGetFieldValues(device *d, int count, field_value *values) {
    int found = status(d);
    for (int i = 0; found == SUCCESS && i < count; i++) answer_field(d, &values[i]);
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

#include "links.h"
