/* A libnvidia-ml.so.1 without a GPU: the entry points that leptond uses, answering from the text file
 * that FAKE_NVML_STATE names, read anew at every call. A line is "key=value":
 *
 *   count=2                        GPUs
 *   gpu0.uuid=GPU-...              also: name, bus, memory, used, load, temperature, power, energy
 *   gpu0.process0=4242,1048576     pid, bytes (no bytes: not available)
 *   gpu0.mig=1  gpu0.slices=2      MIG mode; its slices are gpu0.slice0.uuid=... and so on
 *   gpu0.affinity=15               the CPUs that are near, as a mask
 *   gpu0.link3=gpu1                where an active NVLink ends: at a GPU, or link3=switch
 *   gpu0.ancestor1=20              what GPU 0 and GPU 1 have in common, as NVML numbers it
 *   error.nvmlInitWithFlags=9      what a call returns; gpu0.error.CALL for one GPU alone
 *   gpu0.error=15                  what every call on this GPU returns
 *   hang=CALL  crash=CALL          the call never returns (and leaves a file "STATE.hung"); the process
 *                                  ends in it with code 7
 *   chatter=1                      prints to standard output at start, as libraries may
 *
 * A figure that is not in the file is "not supported". */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

typedef void *device; /* 1 + gpu * 64, plus 1 + slice for a slice */

typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct {
    char legacy[16];
    unsigned int domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} pci_info;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_info;

static int lookup(const char *key, char *value, size_t size)
{
    char line[256];
    size_t length = strlen(key);
    int found = 0;
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        return 0;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static unsigned long long number(const char *key, unsigned long long otherwise)
{
    char value[128];
    return lookup(key, value, sizeof value) ? strtoull(value, NULL, 10) : otherwise;
}

static int gpu_of(device one) { return (int)(((long)one - 1) / 64); }
static int slice_of(device one) { return (int)(((long)one - 1) % 64) - 1; }

static void key_of(device one, const char *what, char *key, size_t size)
{
    if (slice_of(one) >= 0)
        snprintf(key, size, "gpu%d.slice%d.%s", gpu_of(one), slice_of(one), what);
    else
        snprintf(key, size, "gpu%d.%s", gpu_of(one), what);
}

/* What the state says of a call: hang, crash, an error code or 0. */
static int enter(const char *call, device one)
{
    char value[128], key[128];
    if (lookup("crash", value, sizeof value) && strcmp(value, call) == 0)
        _exit(7);
    if (lookup("hang", value, sizeof value) && strcmp(value, call) == 0) {
        char path[1024];
        snprintf(path, sizeof path, "%s.hung", getenv("FAKE_NVML_STATE"));
        FILE *mark = fopen(path, "w");
        if (mark)
            fclose(mark);
        for (;;)
            pause();
    }
    if (one) {
        snprintf(key, sizeof key, "gpu%d.error", gpu_of(one));
        if (number(key, 0))
            return (int)number(key, 0);
        snprintf(key, sizeof key, "gpu%d.error.%s", gpu_of(one), call);
        if (number(key, 0))
            return (int)number(key, 0);
    }
    snprintf(key, sizeof key, "error.%s", call);
    return (int)number(key, 0);
}

#define ENTER(one) do { int code = enter(__func__, one); if (code) return code; } while (0)

static int number_of(device one, const char *what, unsigned long long *value)
{
    char key[128], text[128];
    key_of(one, what, key, sizeof key);
    if (!lookup(key, text, sizeof text))
        return NOT_SUPPORTED;
    *value = strtoull(text, NULL, 10);
    return SUCCESS;
}

static int uint_of(device one, const char *what, unsigned int *value)
{
    unsigned long long wide = 0;
    int code = number_of(one, what, &wide);
    *value = (unsigned int)wide;
    return code;
}

static int text_of(device one, const char *what, char *value, unsigned int size)
{
    char key[128];
    key_of(one, what, key, sizeof key);
    return lookup(key, value, size) ? SUCCESS : NOT_SUPPORTED;
}

int nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    if (number("chatter", 0)) {
        puts("{\"id\": 1, \"error\": \"a library that chatters\"}");
        fflush(stdout);
    }
    ENTER(NULL);
    return SUCCESS;
}

int nvmlShutdown(void) { ENTER(NULL); return SUCCESS; }

const char *nvmlErrorString(int code) { (void)code; return "an error of the fake library"; }

int nvmlDeviceGetCount_v2(unsigned int *count)
{
    ENTER(NULL);
    *count = (unsigned int)number("count", 0);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device *one)
{
    *one = (device)(1L + 64L * index);
    ENTER(*one);
    return index < number("count", 0) ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetMigMode(device one, unsigned int *current, unsigned int *pending)
{
    ENTER(one);
    int code = uint_of(one, "mig", current);
    *pending = *current;
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(device one, unsigned int *count)
{
    (void)one;
    ENTER(one);
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device one, unsigned int index, device *piece)
{
    char key[128];
    ENTER(one);
    snprintf(key, sizeof key, "gpu%d.slices", gpu_of(one));
    *piece = (device)((long)one + 1 + index);
    return index < number(key, 0) ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetUUID(device one, char *value, unsigned int size)
{
    ENTER(one);
    return text_of(one, "uuid", value, size);
}

int nvmlDeviceGetName(device one, char *value, unsigned int size)
{
    ENTER(one);
    return text_of(one, "name", value, size);
}

int nvmlDeviceGetPciInfo_v3(device one, pci_info *info)
{
    ENTER(one);
    memset(info, 0, sizeof *info);
    return text_of(one, "bus", info->bus_id, sizeof info->bus_id);
}

int nvmlDeviceGetMemoryInfo(device one, memory_info *info)
{
    ENTER(one);
    int code = number_of(one, "memory", &info->total);
    if (code == SUCCESS)
        code = number_of(one, "used", &info->used);
    info->free = info->total - info->used;
    return code;
}

int nvmlDeviceGetUtilizationRates(device one, utilization *rates)
{
    ENTER(one);
    return uint_of(one, "load", &rates->gpu);
}

int nvmlDeviceGetPowerUsage(device one, unsigned int *milliwatts)
{
    ENTER(one);
    return uint_of(one, "power", milliwatts);
}

int nvmlDeviceGetTotalEnergyConsumption(device one, unsigned long long *millijoules)
{
    ENTER(one);
    return number_of(one, "energy", millijoules);
}

int nvmlDeviceGetTemperature(device one, unsigned int sensor, unsigned int *celsius)
{
    (void)sensor;
    ENTER(one);
    return uint_of(one, "temperature", celsius);
}

int nvmlDeviceGetComputeRunningProcesses_v3(device one, unsigned int *count, process_info *processes)
{
    char what[32], value[128];
    unsigned int there = 0, room = *count;
    ENTER(one);
    for (;; there++) {
        snprintf(what, sizeof what, "process%u", there);
        if (text_of(one, what, value, sizeof value) != SUCCESS)
            break;
        if (processes && there < room) {
            char *comma = strchr(value, ',');
            memset(&processes[there], 0, sizeof processes[there]);
            processes[there].pid = (unsigned int)strtoul(value, NULL, 10);
            processes[there].used = comma ? strtoull(comma + 1, NULL, 10) : ~0ULL;
        }
    }
    *count = there;
    return there > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetCpuAffinity(device one, unsigned int size, unsigned long *set)
{
    unsigned long long mask = 0;
    ENTER(one);
    int code = number_of(one, "affinity", &mask);
    memset(set, 0, size * sizeof *set);
    set[0] = (unsigned long)mask;
    return code;
}

int nvmlDeviceGetTopologyCommonAncestor(device one, device other, unsigned int *level)
{
    char what[32];
    ENTER(one);
    snprintf(what, sizeof what, "ancestor%d", gpu_of(other));
    return uint_of(one, what, level);
}

static int end_of(device one, unsigned int link, char *end, unsigned int size)
{
    char what[32];
    snprintf(what, sizeof what, "link%u", link);
    return text_of(one, what, end, size);
}

int nvmlDeviceGetNvLinkState(device one, unsigned int link, unsigned int *active)
{
    char end[64];
    ENTER(one);
    *active = end_of(one, link, end, sizeof end) == SUCCESS;
    return link < 18 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(device one, unsigned int link, unsigned int *type)
{
    char end[64];
    ENTER(one);
    int code = end_of(one, link, end, sizeof end);
    *type = strcmp(end, "switch") == 0 ? 2 : 0;
    return code;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device one, unsigned int link, pci_info *info)
{
    char end[64];
    ENTER(one);
    memset(info, 0, sizeof *info);
    int code = end_of(one, link, end, sizeof end);
    if (code != SUCCESS || strncmp(end, "gpu", 3) != 0)
        return code ? code : NOT_SUPPORTED;
    return text_of((device)(1L + 64L * atol(end + 3)), "bus", info->bus_id, sizeof info->bus_id);
}
