// What the rooms of the core share: memory, threads, and the errors that Python sees.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace rdc {

// The stream is damaged, or does not belong to these tables.
struct Damaged : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Arrays that do not fit their model.
struct Misfit : std::runtime_error {
    using std::runtime_error::runtime_error;
};

#if !defined(__cpp_exceptions)
[[noreturn]] void give_up(const char* why);  // of the program that the core is part of
#endif

// Throw an error; where the compiler has no exceptions, as for WebAssembly, the program ends.
template <class Error>
[[noreturn]] void fail(const std::string& what) {
#if defined(__cpp_exceptions)
    throw Error(what);
#else
    give_up(what.c_str());
#endif
}

template <class T>
struct Aligned {
    using value_type = T;
    static constexpr std::align_val_t at{64};
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), at)); }
    void deallocate(T* memory, size_t) { ::operator delete(memory, at); }
    template <class U>
    bool operator==(const Aligned<U>&) const { return true; }
    template <class U>
    bool operator!=(const Aligned<U>&) const { return false; }
};

template <class T>
using Buffer = std::vector<T, Aligned<T>>;  // starts as zeros

// work(first, end) over pieces of 0..count, one piece for each thread. The threads live as long as the call: there is
// nothing that a fork could break. An error of any piece is thrown on.
#if defined(__wasm__)  // has no threads of its own
#define RDC_PER_THREAD static
template <class Work>
void in_parallel(int count, int, Work work) {
    work(0, count);
}
#else
#define RDC_PER_THREAD thread_local
template <class Work>
void in_parallel(int count, int threads, Work work) {
    int pieces = std::max(1, std::min(threads, count));
    std::vector<std::exception_ptr> failed(pieces);
    auto piece = [&](int i) {
        try {
            work(static_cast<int>(int64_t(count) * i / pieces), static_cast<int>(int64_t(count) * (i + 1) / pieces));
        } catch (...) {
            failed[i] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(pieces);
    for (int i = 1; i < pieces; i++) {
        try {
            others.emplace_back(piece, i);
        } catch (const std::exception&) {  // no more threads, or no memory for one
            piece(i);
        }
    }
    piece(0);
    for (auto& other : others) other.join();
    for (auto& error : failed)
        if (error) std::rethrow_exception(error);
}
#endif

}  // namespace rdc
