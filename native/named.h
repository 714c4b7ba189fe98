// Arrays by name, as they come in one piece of memory: their number, then for each the length of its name, the name, the
// number of its sides, the sides, the number of its bytes, the bytes. Numbers are uint32, little-endian.
#pragma once
#include "layers.h"

namespace rdc {

class Named {
  public:
    Named(const char* memory, size_t bytes) {
        const char* end = memory + bytes;
        auto take = [&](void* to, size_t count) {
            if (count > size_t(end - memory)) fail<Misfit>("arrays that end too early");
            if (count) std::memcpy(to, memory, count);  // of nothing, the target may be null
            memory += count;
        };
        auto length = [&] {  // of what follows, so that no more is asked for than there can be
            uint32_t value = 0;
            take(&value, 4);
            if (value > size_t(end - memory)) fail<Misfit>("arrays that end too early");
            return value;
        };
        for (uint32_t left = length(); left > 0; left--) {
            std::string name(length(), ' ');
            take(name.data(), name.size());
            std::vector<size_t> shape(length());
            for (size_t& side : shape) {
                uint32_t value = 0;
                take(&value, 4);
                side = value;
            }
            std::vector<char> data(length());
            take(data.data(), data.size());
            shapes_[name] = shape;
            bytes_[name] = data;
        }
    }

    bool has(const std::string& name) const { return bytes_.count(name); }
    const std::vector<char>& bytes(const std::string& name) const {
        auto found = bytes_.find(name);
        if (found == bytes_.end()) fail<Misfit>(name + " is missing");
        return found->second;
    }
    // Misfit unless there are `count` of them; 0: however many.
    template <class T>
    const T* at(const std::string& name, size_t count = 0) const {
        const std::vector<char>& data = bytes(name);
        if (count && data.size() != count * sizeof(T)) fail<Misfit>(name + " has another size");
        return reinterpret_cast<const T*>(data.data());
    }
    template <class T>
    Arrays<T> under(const std::string& prefix, const std::string& suffix = "") const {
        Arrays<T> found;
        for (const auto& [name, data] : bytes_)
            if (name.rfind(prefix, 0) == 0 && name.size() >= suffix.size() &&
                name.compare(name.size() - suffix.size(), std::string::npos, suffix) == 0)
                found[name.substr(prefix.size())] = {reinterpret_cast<const T*>(data.data()), shapes_.at(name)};
        return found;
    }

  private:
    std::map<std::string, std::vector<char>> bytes_;
    std::map<std::string, std::vector<size_t>> shapes_;
};

}  // namespace rdc
