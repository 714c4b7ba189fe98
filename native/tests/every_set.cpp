// In place of cpu.cpp: every set of kernels, whatever the processor. For kernels made with models.h.
#include <cstring>

#include "../kernels.h"

namespace rdc {

extern const Kernels kernels_avx2, kernels_avx512, kernels_vnni, kernels_bf16, kernels_amx;

namespace {
const Kernels* const all[] = {&kernels_avx2, &kernels_avx512, &kernels_vnni, &kernels_bf16, &kernels_amx, nullptr};
const Kernels* used = all[0];
}  // namespace

const Kernels& kernels() { return *used; }
const Kernels* const* all_kernels() { return all; }

bool use(const char* name) {
    for (const Kernels* k : all)
        if (k && !std::strcmp(k->name, name)) return used = k, true;
    return false;
}

}  // namespace rdc
