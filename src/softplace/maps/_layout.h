// The two layouts of rows that `_kernel.cpp` speaks of, and the loop over rows in parallel.

#pragma once
#include <memory>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "_vector.h"

struct Job { Index rows, size; const float* extra; float* extra_gradient; uint64_t key; float scale; int threads; };
struct Group {  // what an operation knows beside its rows
  Index size; float scale; V extra; U row, column; uint32_t key[2]; V *scratch, *spare; bool want; int* edge;
};
template <class T> struct Row {
  T* p; Index full, rest; V tail;
  Row(const T* start, Index n, float pad) : p((T*)start), full(n / WIDTH), rest(n % WIDTH), tail(fill(pad)) {
    if (rest) tail = load(p + full * WIDTH, rest, tail);
  }
  Index size() const { return full + (rest > 0); }
  V operator[](Index j) const { return j < full ? load(p + j * WIDTH) : tail; }
  void put(Index j, V v) {
    j < full ? store(p + j * WIDTH, v) : store(p + j * WIDTH, v, rest);
  }
};
struct Columns {
  V* p; Index n;
  Index size() const { return n; }
  V operator[](Index j) const { return p[j]; }
  void put(Index j, V v) { p[j] = v; }
};

template <class T> static void to_columns(const T* rows, Index count, Index n, const T* end, V* columns) {
  T block[(SHORT + 1) * WIDTH];
  if (count < WIDTH || rows + (WIDTH - 1) * n + (n + WIDTH - 1) / WIDTH * WIDTH > end) {  // nothing is read past the end
    memset(block, 0, sizeof(block));
    rows = (T*)memcpy(block, rows, count * n * sizeof(T));
  }
  for (Index c = 0; c < n; c += WIDTH) {
    for (int r = 0; r < WIDTH; r++) columns[c + r] = load(rows + r * n + c);
    transpose(columns + c);
  }
}
template <class T> static void to_rows(V* columns, Index count, Index n, T* rows) {
  T block[(SHORT + 1) * WIDTH], *to = count < WIDTH ? block : rows;
  for (Index c = (n - 1) / WIDTH * WIDTH; c >= 0; c -= WIDTH) {  // what is written beyond a row is overwritten after
    transpose(columns + c);
    for (int r = 0; r < WIDTH; r++) {
      bool inside = c + WIDTH <= n || r * n + c + WIDTH <= WIDTH * n;
      inside ? store(to + r * n + c, columns[c + r]) : store(to + r * n + c, columns[c + r], n - c);
    }
  }
  if (count < WIDTH) memcpy(rows, block, count * n * sizeof(T));
}

// Returns 1 where a row had a maximum that is not finite, 2 where there was no memory, 3 for both.
template <class T, class F> static int run(const T* a, const T* b, T* out, const Job& job, F operation) {
  Index n = job.size, at_once = n <= F::longest ? WIDTH : 1, groups = (job.rows + at_once - 1) / at_once;
  const T *end_a = a + job.rows * n, *end_b = b + job.rows * n;
  U iota;
  for (int i = 0; i < WIDTH; i++) iota[i] = i;
  int edge = 0;
#pragma omp parallel num_threads(job.threads) reduction(| : edge) if (job.threads > 1)
  {
    Index room = at_once > 1 ? SHORT + 5 : (n + 64) / WIDTH + 1;  // not a power of two: addresses would collide in the cache
    std::unique_ptr<V[]> scratch(new (std::nothrow) V[2 * room]);
    if (!scratch) edge |= 2;
#pragma omp for schedule(static)
    for (Index group = 0; group < (scratch ? groups : 0); group++) {
      Index row = group * at_once, count = job.rows - row < at_once ? job.rows - row : at_once;
      V extra{}, made;
      if (job.extra) for (Index r = 0; r < WIDTH; r++) extra[r] = job.extra[row + (at_once > 1 && r < count ? r : 0)];
      U zero{};
      Group g{n, job.scale, extra, (at_once > 1 ? iota : zero) + (uint32_t)row, at_once > 1 ? zero : iota,
              {(uint32_t)job.key, (uint32_t)(job.key >> 32)}, scratch.get(), scratch.get() + room, job.extra_gradient != nullptr, &edge};
      if (at_once > 1) {
        V first[SHORT + 5], second[SHORT + 5];
        to_columns(a + row * n, count, n, end_a, first);
        if (b) to_columns(b + row * n, count, n, end_b, second);
        made = operation.template run<true>(Columns{first, n}, Columns{second, n}, Columns{first, n}, g);
        to_rows(first, count, n, out + row * n);
      } else
        made = operation.template run<false>(Row<T>(a + row * n, n, F::pad), Row<T>((b ? b : a) + row * n, n, 0.0f), Row<T>(out + row * n, n, 0.0f), g);
      if (job.extra_gradient) memcpy(job.extra_gradient + row, &made, count * sizeof(float));
    }
  }
  return edge;
}

static void prepare(void* out, const Job& job, int bytes) {  // fewer page faults where the memory is fresh
#ifdef __linux__
  uintptr_t page = 1 << 21, start = ((uintptr_t)out + page - 1) / page * page, end = (uintptr_t)out + job.rows * job.size * bytes;
  if (end > start + 4 * page) madvise((void*)start, (end - start) / page * page, MADV_HUGEPAGE);
#endif
}
