/* A libcuda that works at once on the CPU's memory and writes down what it is asked, to see what a binding really passes.

   FAKE_CUDA_FAIL="cuMemAlloc=2" lets one function return a status; FAKE_CUDA_WAIT="1000" lets a stream take 1,000 us. Kernels have the parameters (ptr, i32, f32). */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))

static int status(const char *name) {
    const char *fail = getenv("FAKE_CUDA_FAIL");
    size_t length = strlen(name);
    return fail && !strncmp(fail, name, length) && fail[length] == '=' ? atoi(fail + length + 1) : 0;
}

#define CALL(name, ...) SAY(#name " " __VA_ARGS__); SAY("\n"); { int s = status(#name); if (s) return s; }

static void *current;
typedef unsigned long long u64;

int cuInit(unsigned flags) { CALL(cuInit, "%u", flags) return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "what the driver says"; return 0; }
int cuDeviceGetCount(int *count) { CALL(cuDeviceGetCount, "") *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { CALL(cuDeviceGet, "%d", ordinal) *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Fake Orin %d", device); return 0; }
int cuDeviceTotalMem(size_t *bytes, int device) { *bytes = 8ull << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? 1 : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    CALL(cuDevicePrimaryCtxRetain, "%d", device)
    *context = (void *)(intptr_t)(0xC000 + device);
    return 0;
}
int cuDevicePrimaryCtxRelease(int device) { CALL(cuDevicePrimaryCtxRelease, "%d", device) return 0; }
int cuCtxGetCurrent(void **context) { *context = current; return 0; }
int cuCtxSetCurrent(void *context) { CALL(cuCtxSetCurrent, "%p", context) current = context; return 0; }
int cuMemGetInfo(size_t *free, size_t *total) { *free = 123456; *total = 8ull << 30; return 0; }
/* Device 1 has what lies below 1 MiB, device 0 what lies below 2 MiB, and is managed below 3 MiB; beyond is nobody's. */
int cuPointerGetAttribute(void *data, int attribute, u64 address) {
    CALL(cuPointerGetAttribute, "%d %llx", attribute, (unsigned long long)address)
    if (address >= 3u << 20) return 1;
    if (attribute == 9) *(int *)data = address < 1u << 20;
    if (attribute == 8) *(unsigned *)data = address >= 2u << 20;
    return 0;
}
int cuMemAlloc(u64 *address, size_t size) { CALL(cuMemAlloc, "%zu", size) *address = (u64)calloc(size, 1); return 0; }
int cuMemFree(u64 address) { CALL(cuMemFree, "") free((void *)address); return 0; }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    CALL(cuMemHostAlloc, "%zu flags %u", size, flags)
    *address = calloc(size, 1);
    return 0;
}
int cuMemHostGetDevicePointer(u64 *device, void *host, unsigned flags) {
    CALL(cuMemHostGetDevicePointer, "%u", flags)
    *device = (u64)host;
    return 0;
}
int cuMemFreeHost(void *address) { CALL(cuMemFreeHost, "") free(address); return 0; }
int cuStreamCreate(void **stream, unsigned flags) {
    CALL(cuStreamCreate, "flags %u", flags)
    *stream = (void *)0x5000;
    return 0;
}
int cuStreamDestroy(void *stream) { CALL(cuStreamDestroy, "%p", stream) return 0; }
int cuStreamSynchronize(void *stream) {
    CALL(cuStreamSynchronize, "%p", stream)
    usleep(getenv("FAKE_CUDA_WAIT") ? atoi(getenv("FAKE_CUDA_WAIT")) : 0);
    return 0;
}
int cuMemcpyHtoDAsync(u64 to, const void *from, size_t size, void *stream) {
    CALL(cuMemcpyHtoDAsync, "%zu %p", size, stream)
    memcpy((void *)to, from, size);
    return 0;
}
int cuMemcpyDtoHAsync(void *to, u64 from, size_t size, void *stream) {
    CALL(cuMemcpyDtoHAsync, "%zu %p", size, stream)
    memcpy(to, (void *)from, size);
    return 0;
}
int cuEventCreate(void **event, unsigned flags) { CALL(cuEventCreate, "flags %u", flags) *event = (void *)0xE000; return 0; }
int cuEventDestroy(void *event) { CALL(cuEventDestroy, "%p", event) return 0; }
int cuEventRecord(void *event, void *stream) { CALL(cuEventRecord, "%p %p", event, stream) return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    CALL(cuStreamWaitEvent, "%p %p %u", stream, event, flags)
    return 0;
}
int cuEventElapsedTime(float *milliseconds, void *begin, void *end) {
    CALL(cuEventElapsedTime, "%p %p", begin, end)
    *milliseconds = 1.5f;
    return 0;
}
int cuStreamBeginCapture(void *stream, int mode) { CALL(cuStreamBeginCapture, "%p mode %d", stream, mode) return 0; }
int cuStreamEndCapture(void *stream, void **graph) {
    CALL(cuStreamEndCapture, "%p", stream)
    *graph = (void *)0x6000;
    return 0;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, u64 flags) {
    CALL(cuGraphInstantiate, "%p flags %llu", graph, flags)
    *executable = (void *)0x6100;
    return 0;
}
int cuGraphLaunch(void *executable, void *stream) { CALL(cuGraphLaunch, "%p %p", executable, stream) return 0; }
int cuGraphExecDestroy(void *executable) { CALL(cuGraphExecDestroy, "%p", executable) return 0; }
int cuGraphDestroy(void *graph) { CALL(cuGraphDestroy, "%p", graph) return 0; }
int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    SAY("image [%s] options", (const char *)image);
    for (unsigned i = 0; i < count; i++) {
        SAY(" %d", options[i]);
        if (options[i] == 5 && status("cuModuleLoadDataEx")) strcpy(values[i], "ptxas: line 3 is wrong");
        if (options[i] == 6) SAY("=%u", (unsigned)(uintptr_t)values[i]);
    }
    SAY("\n");
    CALL(cuModuleLoadDataEx, "")
    *module = (void *)0x4000;
    return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    CALL(cuModuleGetFunction, "%p %s", module, name)
    *function = (void *)0x4100;
    return 0;
}
int cuModuleUnload(void *module) { CALL(cuModuleUnload, "%p", module) return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    CALL(cuLaunchKernel, "%p grid %u %u %u block %u %u %u shared %u stream %p parameters %llx %d %g extra %d", function,
         gx, gy, gz, bx, by, bz, shared, stream, *(u64 *)parameters[0], *(int *)parameters[1], *(float *)parameters[2],
         extra != 0)
    return 0;
}

#define ENTRY(name) {#name, (void *)name}
static struct { const char *name; void *function; } table[] = {
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuGetErrorName), ENTRY(cuGetErrorString), ENTRY(cuDeviceGetCount),
    ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName), ENTRY(cuDeviceTotalMem), ENTRY(cuDeviceGetAttribute),
    ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxRelease), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSetCurrent),
    ENTRY(cuMemGetInfo), ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemHostAlloc), ENTRY(cuMemHostGetDevicePointer),
    ENTRY(cuMemFreeHost), ENTRY(cuStreamCreate), ENTRY(cuStreamDestroy), ENTRY(cuStreamSynchronize),
    ENTRY(cuMemcpyHtoDAsync), ENTRY(cuMemcpyDtoHAsync), ENTRY(cuEventCreate), ENTRY(cuEventDestroy), ENTRY(cuEventRecord),
    ENTRY(cuStreamWaitEvent), ENTRY(cuEventElapsedTime), ENTRY(cuStreamBeginCapture), ENTRY(cuStreamEndCapture),
    ENTRY(cuGraphInstantiateWithFlags), {"cuGraphInstantiate", (void *)cuGraphInstantiateWithFlags}, ENTRY(cuGraphLaunch),
    ENTRY(cuGraphExecDestroy), ENTRY(cuGraphDestroy), ENTRY(cuModuleLoadDataEx), ENTRY(cuModuleGetFunction),
    ENTRY(cuModuleUnload), ENTRY(cuLaunchKernel), ENTRY(cuPointerGetAttribute),
};

int cuGetProcAddress_v2(const char *, void **, int, u64, int *);
int cuGetProcAddress_v2(const char *name, void **function, int version, u64 flags, int *found) {
    *function = 0;
    if (!strcmp(name, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(name, table[i].name)) *function = table[i].function;
    if (found) *found = *function ? 0 : 1;
    return *function ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **function, int version, u64 flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
