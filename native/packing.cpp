// A piece is about a megabyte of stored bytes: few enough to hand out, and soon given back to the system.
#include "packing.h"

#include <algorithm>
#include <stdexcept>
#include <system_error>

#include "linear.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace puna {
namespace {

constexpr int64_t piece_bytes = int64_t{1} << 20;

// Whole pages, those that only begin or end there too: whoever reads them again gets them again.
void release(const uint8_t *from, int64_t bytes) {
#if defined(__linux__)
    static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = reinterpret_cast<uintptr_t>(from) / page * page;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(from) + static_cast<uintptr_t>(bytes) + page - 1) / page * page;
    madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
#else
    (void)from, (void)bytes;
#endif
}

}  // namespace

Packing::Packing(std::vector<PackJob> jobs, int threads) : jobs_(std::move(jobs)) {
    for (const PackJob &job : jobs_) {
        const int64_t rows = std::max<int64_t>(1, piece_bytes / static_cast<int64_t>(row_bytes(job.type, job.k)));
        const int64_t step = panels(rows), all = panels(job.n);
        for (int64_t matrix = 0; matrix < job.count; matrix++)
            for (int64_t begin = 0; begin < all; begin += step)
                pieces_.push_back({&job, matrix, begin, std::min(all, begin + step)});
    }
    left_ = pieces_.size();
    for (int i = 0; i < threads; i++) {
        try {
            workers_.emplace_back([this] { work(); });
        } catch (const std::system_error &) {  // the system has no room for so many: fewer do it too
            if (workers_.empty()) throw;
            break;
        }
    }
}

Packing::~Packing() {
    if (forks_ != forks()) {  // they are not there to be joined
        for (std::thread &worker : workers_) worker.detach();
        return;
    }
    next_.store(pieces_.size());
    for (std::thread &worker : workers_) worker.join();
}

bool Packing::wait(double seconds) {
    if (forks_ != forks())
        throw std::runtime_error(
            "the process was forked while weights were taken in; a fork before loading, or after the first step, "
            "works");
    std::unique_lock lock(mutex_);
    return finished_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return left_ == 0; });
}

void Packing::work() {
    for (size_t i; (i = next_.fetch_add(1)) < pieces_.size();) {
        pack_piece(pieces_[i]);
        const std::lock_guard lock(mutex_);
        if (--left_ != 0) continue;
        for (const PackJob &job : jobs_)  // once more: reading a piece brings pages around it too
            if (job.mapped) release(job.from, job.count * job.n * static_cast<int64_t>(row_bytes(job.type, job.k)));
        finished_.notify_all();
    }
}

void Packing::pack_piece(const Piece &piece) {
    const PackJob &job = *piece.job;
    const auto row = static_cast<int64_t>(row_bytes(job.type, job.k));
    const int64_t first = piece.begin * panel_rows, last = std::min(job.n, piece.end * panel_rows);
    const uint8_t *from = job.from + piece.matrix * job.n * row;
    pack(job.type, job.n, job.k, from,
         job.to + piece.matrix * static_cast<int64_t>(packed_bytes(job.type, job.n, job.k)), piece.begin, piece.end);
    if (job.mapped) release(from + first * row, (last - first) * row);
    done_.fetch_add((last - first) * row, std::memory_order_relaxed);
}

}  // namespace puna
