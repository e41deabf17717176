/* A driver of GPUs that are not there. Every call reads what it says from the environment: FAKE_NVML_<KEY>_<GPU>, else FAKE_NVML_<KEY>,
 * else a default. FAKE_NVML_FAIL_<FUNCTION>[_<GPU>] is the error that a function returns. Energy is power over time, added up here.
 * Compiled with -DOLD it lacks what old drivers lack. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long u64;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
struct device { int gpu, instance; double since, millijoules; };
struct process { unsigned pid; u64 used; unsigned gi, ci; };
struct field { unsigned id, scope; long long timestamp, latency; int type, result; u64 value; };
struct event { struct device *device; u64 type, data; unsigned gi, ci; };

static struct device gpus[64], instances[64][8];
static int up, events_seen[64];

static const char *text(const char *key, int gpu) {
    char name[96];
    snprintf(name, sizeof name, "FAKE_NVML_%s_%d", key, gpu);
    const char *found = getenv(name);
    if (found) return found;
    snprintf(name, sizeof name, "FAKE_NVML_%s", key);
    return getenv(name);
}
static u64 number(const char *key, int gpu, u64 otherwise) {
    const char *found = text(key, gpu);
    return found ? strtoull(found, 0, 10) : otherwise;
}
static int failing(const char *function, int gpu) {
    char key[96];
    if (!up) return UNINITIALIZED;
    if (number("LOST", gpu, 0)) return LOST;
    snprintf(key, sizeof key, "FAIL_%s", function);
    return (int)number(key, gpu, 0);
}
#define CHECK(device) do { int failed = failing(__func__ + 4, (device)->gpu); if (failed) return failed; } while (0)
#define WHOLE(device) do { CHECK(device); if ((device)->instance >= 0) return NOT_SUPPORTED; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    int failed = (int)number("FAIL_InitWithFlags", 0, 0);
    if (failed) return failed;
    for (int gpu = 0; gpu < 64; gpu++) {
        gpus[gpu].gpu = gpu; gpus[gpu].instance = -1;
        for (int at = 0; at < 8; at++) { instances[gpu][at].gpu = gpu; instances[gpu][at].instance = at; }
    }
    up = 1;
    return OK;
}
int nvmlShutdown(void) { up = 0; return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == 4 ? "Insufficient Permissions" : "error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "550.54.15"); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 12040; return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = (unsigned)number("DEVICES", 0, 1); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, struct device **out) { *out = &gpus[at]; return OK; }
int nvmlDeviceGetName(struct device *d, char *out, unsigned size) {
    const char *name = text("NAME", d->gpu);
    snprintf(out, size, "%s", name ? name : "Imaginary H100");
    return OK;
}
int nvmlDeviceGetUUID(struct device *d, char *out, unsigned size) {
    if (d->instance < 0) snprintf(out, size, "GPU-%08d-0000-0000-0000-%012d", d->gpu, d->gpu);
    else snprintf(out, size, "MIG-%08d-0000-0000-0000-%012d", d->gpu, d->instance);
    return OK;
}
int nvmlDeviceGetMemoryInfo(struct device *d, u64 *out) {
    CHECK(d);
    u64 total = number("TOTAL", d->gpu, 80ull << 30), used = number("USED", d->gpu, 8ull << 30);
    if (d->instance >= 0) { total /= 8; used = (u64)(d->instance + 1) << 30; }
    out[0] = total; out[1] = total - used; out[2] = used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(struct device *d, unsigned *out) { WHOLE(d); out[0] = (unsigned)number("UTILIZATION", d->gpu, 37); out[1] = 5; return OK; }
int nvmlDeviceGetPowerUsage(struct device *d, unsigned *out) { WHOLE(d); *out = (unsigned)number("POWER", d->gpu, 350000); return OK; }
int nvmlDeviceGetEnforcedPowerLimit(struct device *d, unsigned *out) { WHOLE(d); *out = (unsigned)number("LIMIT", d->gpu, 700000); return OK; }
int nvmlDeviceGetTemperature(struct device *d, unsigned sensor, unsigned *out) { WHOLE(d); *out = (unsigned)number("TEMPERATURE", d->gpu, 61); return OK; }
int nvmlDeviceGetClockInfo(struct device *d, unsigned kind, unsigned *out) { WHOLE(d); *out = kind == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *d, u64 *out) { WHOLE(d); *out = number("THROTTLE", d->gpu, 0); return OK; }
int nvmlDeviceGetPcieThroughput(struct device *d, unsigned kind, unsigned *out) { WHOLE(d); *out = kind ? 2048 : 1024; return OK; }
int nvmlDeviceGetComputeMode(struct device *d, unsigned *out) { *out = 3; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *d, unsigned *count, struct process *out) {
    CHECK(d);
    char list[256]; unsigned found = 0;
    const char *given = text("PROCESSES", d->gpu);  /* PID:BYTES,PID:BYTES */
    snprintf(list, sizeof list, "%s", given ? given : "");
    for (char *at = strtok(list, ","); at; at = strtok(0, ",")) {
        if (out && found < *count) {
            out[found].pid = (unsigned)strtoul(at, &at, 10);
            out[found].used = strtoull(at + 1, 0, 10);
        }
        found++;
    }
    int result = out || !found ? OK : SMALL;
    *count = found;
    return result;
}
int nvmlDeviceGetTopologyCommonAncestor(struct device *a, struct device *b, unsigned *out) { *out = (a->gpu ^ b->gpu) & 4 ? 50 : 10; return OK; }
int nvmlDeviceGetP2PStatus(struct device *a, struct device *b, unsigned kind, unsigned *out) { *out = (a->gpu ^ b->gpu) == 1 ? 0 : 4; return OK; }

#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(struct device *d, u64 *out) {
    WHOLE(d);
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    double now = t.tv_sec + t.tv_nsec / 1e9;
    if (d->since) d->millijoules += (now - d->since) * number("POWER", d->gpu, 350000);
    d->since = now;
    *out = number("ENERGY", d->gpu, 5000000) + (u64)d->millijoules;
    return OK;
}
int nvmlDeviceGetFieldValues(struct device *d, int count, struct field *fields) {
    WHOLE(d);
    for (int at = 0; at < count; at++) {
        fields[at].result = number("NVLINK", d->gpu, 0) ? OK : NOT_SUPPORTED;
        fields[at].value = number("NVLINK", d->gpu, 0) * (fields[at].id == 138 ? 1 : 3);
    }
    return OK;
}
int nvmlDeviceGetTotalEccErrors(struct device *d, unsigned kind, unsigned counter, u64 *out) { WHOLE(d); *out = kind ? 0 : number("ECC", d->gpu, 2); return OK; }
int nvmlDeviceGetMigMode(struct device *d, unsigned *now, unsigned *next) { *now = *next = number("MIG", d->gpu, 0) > 0; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(struct device *d, unsigned *out) { *out = 8; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(struct device *d, unsigned at, struct device **out) {
    if (at >= number("MIG", d->gpu, 0)) return NOT_FOUND;
    *out = &instances[d->gpu][at];
    return OK;
}
int nvmlEventSetCreate(void **out) { *out = gpus; return number("FAIL_EventSetCreate", 0, 0); }
int nvmlDeviceRegisterEvents(struct device *d, u64 kinds, void *set) { events_seen[d->gpu] = (int)number("XIDS", d->gpu, 0); return OK; }
int nvmlEventSetWait_v2(void *set, struct event *out, unsigned timeout) {
    for (int gpu = 0; gpu < 64; gpu++)
        if (events_seen[gpu] < (int)number("XIDS", gpu, 0)) {
            events_seen[gpu]++;
            out->device = &gpus[gpu];
            out->data = 79;
            return OK;
        }
    return TIMEOUT;
}
int nvmlEventSetFree(void *set) { return OK; }
#endif
