// Which kernels this processor can run.
#include "kernels.h"

#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rdc {

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512, kernels_vnni, kernels_bf16, kernels_amx;
#endif

namespace {

#if defined(__x86_64__)
// Tiles need the processor, the system's consent to keep them, and on Linux this process's request.
bool has_amx() {
#if defined(__linux__)
    unsigned a, b, c, d;
    constexpr unsigned TILE = 1u << 24, BF16 = 1u << 22, OSXSAVE = 1u << 27;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (TILE | BF16)) != (TILE | BF16)) return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned KEPT = 3u << 17;
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;
    return (low & KEPT) == KEPT && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

struct Found {
    std::vector<const Kernels*> all{&kernels_baseline};
    const Kernels* used;
    Found() {
        used = all[0];
#if defined(__x86_64__)
        __builtin_cpu_init();
        bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
        bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
        if (avx2) all.push_back(&kernels_avx2);
        if (avx512) all.push_back(&kernels_avx512);
        if (vnni) all.push_back(&kernels_vnni);
        used = all.back();
        // Dot products of bfloat16 were no faster than floats where they could be measured: to be named, not chosen.
        if (bf16) all.push_back(&kernels_bf16);
        if (bf16 && has_amx()) {
            all.push_back(&kernels_amx);
            used = all.back();
        }
#endif
        all.push_back(nullptr);
    }
};

Found& found() {
    static Found once;
    return once;
}

}  // namespace

const Kernels& kernels() { return *found().used; }
const Kernels* const* all_kernels() { return found().all.data(); }

bool use(const char* name) {
    for (const Kernels* k : found().all)
        if (k && !std::strcmp(k->name, name)) {
            found().used = k;
            return true;
        }
    return false;
}

}  // namespace rdc
