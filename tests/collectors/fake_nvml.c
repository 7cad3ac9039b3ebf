/* A stand-in for libnvidia-ml.so.1 that is driven by a scenario file, re-read on every call, so that a test may change
 * values or lose a GPU while the unmodified binding runs. Lines: "KEY VALUE" or "GPU.KEY VALUE"; a key that is absent is
 * answered "not supported"; "GPU.lost 1" answers "GPU is lost" to everything; "GPU.xid N" is delivered once per new N. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15 };
typedef unsigned long long u64;
typedef struct { int index; int mig; } device_t; /* mig: -1 for a whole card, else its slice */
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { u64 reference, violation; } violation_t;
typedef struct { unsigned version, supported; } support_t;
static device_t devices[64];
static u64 delivered[16];
static int gone[16]; /* as the real one: a card once lost stays lost until NVML is opened anew */

static int lookup(const char *key, char *out, size_t size) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    int found = 0;
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        if (!strncmp(line, key, length) && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, size, "%s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}
static int global(const char *key, u64 *value) {
    char text[128];
    if (!lookup(key, text, sizeof text)) return NOT_SUPPORTED;
    *value = strtoull(text, NULL, 0);
    return OK;
}
static int text_of(device_t *d, const char *key, char *out, unsigned size) {
    char full[96], flag[16];
    snprintf(full, sizeof full, "%d.lost", d->index);
    if (lookup(full, flag, sizeof flag) && atoi(flag)) gone[d->index] = 1;
    if (gone[d->index]) return LOST;
    if (d->mig < 0) snprintf(full, sizeof full, "%d.%s", d->index, key);
    else snprintf(full, sizeof full, "%d.mig%d.%s", d->index, d->mig, key);
    return lookup(full, out, size) ? OK : NOT_SUPPORTED;
}
static int get(device_t *d, const char *key, u64 *value) {
    char text[128];
    int code = text_of(d, key, text, sizeof text);
    if (!code) *value = strtoull(text, NULL, 0);
    return code;
}
static int get32(device_t *d, const char *key, unsigned *value) {
    u64 wide = 0;
    int code = get(d, key, &wide);
    if (!code) *value = (unsigned)wide;
    return code;
}
static device_t *slot(int index, int mig) {
    device_t *d = &devices[index * 8 + mig + 1];
    d->index = index;
    d->mig = mig;
    return d;
}

int nvmlInitWithFlags(unsigned flags) {
    u64 count;
    (void)flags;
    memset(gone, 0, sizeof gone);
    return global("count", &count) ? NO_DRIVER : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { static char text[32]; snprintf(text, sizeof text, "fake error %d", code); return text; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "570.00"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { u64 n; int code = global("count", &n); if (!code) *count = (unsigned)n; return code; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **out) {
    u64 ignored;
    *out = slot((int)index, -1);
    return get(*out, "alive", &ignored) == LOST ? LOST : OK;
}
int nvmlDeviceGetUUID(device_t *d, char *out, unsigned size) { return text_of(d, "uuid", out, size); }
int nvmlDeviceGetName(device_t *d, char *out, unsigned size) { return text_of(d, "name", out, size); }

int nvmlDeviceGetMemoryInfo_v2(device_t *d, memory_t *m) {
    int code = get(d, "memory_total", &m->total);
    if (code || (code = get(d, "memory_used", &m->used))) return code;
    m->reserved = 0;
    m->free = m->total - m->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(device_t *d, utilization_t *u) { u->memory = 0; return get32(d, "utilization", &u->gpu); }
int nvmlDeviceGetPowerUsage(device_t *d, unsigned *mw) { return get32(d, "power_mw", mw); }
int nvmlDeviceGetEnforcedPowerLimit(device_t *d, unsigned *mw) { return get32(d, "power_limit_mw", mw); }
int nvmlDeviceGetTotalEnergyConsumption(device_t *d, u64 *mj) { return get(d, "energy_mj", mj); }
int nvmlDeviceGetTemperature(device_t *d, unsigned sensor, unsigned *c) { (void)sensor; return get32(d, "temperature", c); }
int nvmlDeviceGetClockInfo(device_t *d, unsigned domain, unsigned *mhz) { return get32(d, domain == 1 ? "sm_mhz" : "memory_mhz", mhz); }
int nvmlDeviceGetFanSpeed(device_t *d, unsigned *percent) { return get32(d, "fan", percent); }
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *d, u64 *bits) { return get(d, "reasons", bits); }
int nvmlDeviceGetViolationStatus(device_t *d, unsigned policy, violation_t *v) {
    char key[32];
    snprintf(key, sizeof key, "violation%u", policy);
    v->reference = 0;
    return get(d, key, &v->violation);
}
int nvmlDeviceGetTotalEccErrors(device_t *d, unsigned kind, unsigned scope, u64 *count) {
    char key[32];
    snprintf(key, sizeof key, "ecc%u%u", kind, scope);
    return get(d, key, count);
}
int nvmlDeviceGetRemappedRows(device_t *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    char text[64];
    int code = text_of(d, "remapped", text, sizeof text);
    if (!code) sscanf(text, "%u,%u,%u,%u", corrected, uncorrected, pending, failed);
    return code;
}
int nvmlDeviceGetPcieReplayCounter(device_t *d, unsigned *count) { return get32(d, "pcie_replay", count); }

typedef struct { unsigned field, scope; long long time, latency; unsigned type; int code; union { double d; u64 u; } value; } field_t;
int nvmlDeviceGetFieldValues(device_t *d, int count, field_t *fields) {
    for (int i = 0; i < count; i++) {
        char key[48];
        snprintf(key, sizeof key, "field%u.%u", fields[i].field, fields[i].scope);
        fields[i].type = 3;
        fields[i].code = get(d, key, &fields[i].value.u);
        if (fields[i].code == LOST) return LOST;
    }
    return OK;
}
typedef struct { unsigned pid; u64 used; unsigned instance, compute; } process_t;
int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned *count, process_t *out) {
    char text[64];
    int code = text_of(d, "process", text, sizeof text);
    if (code == NOT_SUPPORTED) { *count = 0; return OK; }
    if (code) return code;
    if (!out) { *count = 1; return TOO_SMALL; }
    *count = 1;
    sscanf(text, "%u,%llu", &out->pid, &out->used);
    return OK;
}

int nvmlDeviceGetMigMode(device_t *d, unsigned *now, unsigned *pending) { int code = get32(d, "mig", now); *pending = 0; return code; }
int nvmlDeviceGetMaxMigDeviceCount(device_t *d, unsigned *count) { (void)d; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device_t *d, unsigned position, device_t **out) {
    char text[64];
    device_t probe = { d->index, (int)position };
    if (text_of(&probe, "uuid", text, sizeof text)) return NOT_FOUND;
    *out = slot(d->index, (int)position);
    return OK;
}
int nvmlDeviceGetGpuInstanceId(device_t *d, unsigned *id) { return get32(d, "gpu_instance", id); }
int nvmlDeviceGetComputeInstanceId(device_t *d, unsigned *id) { *id = 0; return d->mig < 0 ? INVALID : OK; }

typedef struct { device_t *device; u64 type, data; unsigned instance, compute; } event_t;
int nvmlEventSetCreate(void **set) { *set = &delivered; return OK; }
int nvmlDeviceRegisterEvents(device_t *d, u64 types, void *set) { (void)d; (void)types; (void)set; return OK; }
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned timeout_ms) {
    (void)set; (void)timeout_ms;
    for (int i = 0; i < 8; i++) {
        char key[32];
        u64 xid;
        snprintf(key, sizeof key, "%d.xid", i);
        if (!global(key, &xid) && xid != delivered[i]) {
            delivered[i] = xid;
            *event = (event_t){ slot(i, -1), 8, xid, 0, 0 };
            return OK;
        }
    }
    return TIMEOUT;
}

typedef struct { unsigned id; int code; double value; void *names[3]; } gpm_metric_t;
typedef struct { unsigned version, count; void *old, *new; gpm_metric_t metrics[]; } gpm_t;
int nvmlGpmQueryDeviceSupport(device_t *d, support_t *s) {
    s->supported = 0;
    return get32(d, "gpm", &s->supported) == LOST ? LOST : OK;
}
int nvmlGpmSampleAlloc(void **sample) { *sample = calloc(1, sizeof(device_t)); return OK; }
int nvmlGpmSampleFree(void *sample) { free(sample); return OK; }
int nvmlGpmSampleGet(device_t *d, device_t *sample) { *sample = *d; return OK; }
int nvmlGpmMigSampleGet(device_t *d, unsigned instance, device_t *sample) {
    for (int position = 0; position < 7; position++) {
        unsigned found;
        *sample = (device_t){ d->index, position };
        if (!get32(sample, "gpu_instance", &found) && found == instance) return OK;
    }
    return NOT_FOUND;
}
int nvmlGpmMetricsGet(gpm_t *request) {
    if (!request->old || !request->new) return INVALID;
    for (unsigned i = 0; i < request->count; i++) {
        char key[32], text[32];
        snprintf(key, sizeof key, "gpm%u", request->metrics[i].id);
        request->metrics[i].code = text_of(request->new, key, text, sizeof text);
        if (!request->metrics[i].code) request->metrics[i].value = atof(text);
    }
    return OK;
}
