// The scheduler behind cuda_on_cpu.h. Compile it without sanitizers: it asks at run time whether
// ASan is there.
#include "cuda_on_cpu.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "runtime_state.h"

extern "C" {
// The ends of the static __shared__ variables, named by shared.ld.
__attribute__((visibility("hidden"))) extern char __start_cuda_shared[], __stop_cuda_shared[];
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** save, const void* bottom,
                                                          size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* saved, const void** bottom,
                                                           size_t* size);
__attribute__((weak)) void __asan_poison_memory_region(void const volatile* p, size_t n);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile* p, size_t n);
}

// ---- switching between stacks
// ---------------------------------------------------------------------------------------
#if defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
extern "C" void cuda_on_cpu_switch(void** save, void* load);
asm(R"(
.text
.globl cuda_on_cpu_switch
.hidden cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
struct Context {
  void* sp = nullptr;
  void prepare(char* stack, size_t size, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + size);
    *--top = nullptr;  // where entry would return to; it never does
    *--top = reinterpret_cast<void*>(entry);
    sp = top - 6;  // six registers, of any value
  }
  static void change(Context& from, Context& to) { cuda_on_cpu_switch(&from.sp, to.sp); }
};
#else
#include <ucontext.h>
struct Context {
  ucontext_t c;
  void prepare(char* stack, size_t size, void (*entry)()) {
    getcontext(&c);
    c.uc_stack = {stack, 0, size};
    c.uc_link = nullptr;
    makecontext(&c, entry, 0);
  }
  static void change(Context& from, Context& to) { swapcontext(&from.c, &to.c); }
};
#endif

#define BUILTIN \
  __attribute__((section("cuda_builtins")))  // so that the race check can leave them out
BUILTIN uint3 threadIdx, blockIdx;
BUILTIN dim3 blockDim, gridDim;

namespace cuda_on_cpu {
Where where;

namespace {
constexpr size_t stack_size = 256 << 10, red_zone = 64, max_pieces = 64, max_shared = 227 << 10;
constexpr unsigned long max_idle_rounds = 100000;

struct Block;

struct Fiber {
  Context context;
  char* stack = nullptr;
  void* fake_stack = nullptr;  // ASan's
  Block* block = nullptr;
  uint3 index{};
  int thread = 0;
  bool done = false;
  Wait wait = Wait::none;
  const char *name = "", *file = "";
  int line = 0;
  unsigned mask = 0;  // of a warp operation
  uint64_t value = 0;
  int source = 0;
};

struct Block {
  uint3 index{};
  unsigned rank = 0, serial = 0, cluster = 0, epoch = 0, cluster_epoch = 0;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::deque<Fiber*> ready, later;
  struct Warp {
    unsigned epoch = 0, alive = 0;
    int waiting = 0;
  };  // alive: a mask of lanes; waiting: how many
  std::vector<Warp> warps;
  int waiting = 0, alive = 0;
  char* arena = nullptr;        // dynamic shared memory with red zones
  int64_t last_visit = -1;      // its cluster_epoch when another block last used its shared memory
  std::vector<char> put_aside;  // the static shared memory, while another block runs
};

struct State {
  const cudaLaunchConfig_t* config;
  void (*body)(void*);
  void* arguments;
  std::vector<std::unique_ptr<Block>> living;
  bool cooperative = false, failed = false;
  unsigned cluster = 1, serial = 0, threads = 0;
  int waiting = 0;          // at the grid or cluster barrier
  Block* loaded = nullptr;  // whose static shared memory is in place
  Fiber* current = nullptr;
  Context main;
  void* main_fake_stack = nullptr;
  const void* main_bottom = nullptr;
  size_t main_size = 0;
  bool progress = false;
} s;

std::mutex one_launch_at_a_time;
std::vector<char*> free_stacks;
std::map<const void*, int> shared_limit, large_clusters;
std::string report;
cudaError_t last_error = cudaSuccess;
Order order = Order::forward;
std::minstd_rand random_bits;
int multiprocessors = 4, capability = 9;
std::string left_out_file;
int left_out_line = 0;

size_t static_bytes() { return size_t(__stop_cuda_shared - __start_cuda_shared); }

bool is_static(const void* p) { return p >= __start_cuda_shared && p < __stop_cuda_shared; }

// Not memcpy and memset: ASan would stop these at the red zones between the variables.
void raw_copy(char* to, const char* from, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    to[i] = from[i];
    asm volatile("" ::: "memory");
  }
}
void raw_poison(char* to, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    to[i] = char(0xff);
    asm volatile("" ::: "memory");
  }
}

std::string triple(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}
std::string place(const Fiber& f) {
  return std::string(f.name) + " (" + f.file + ":" + std::to_string(f.line) + ")";
}

// ---- fibers ----
void enter(Fiber& f) {
  s.current = &f;
  threadIdx = f.index;
  blockIdx = f.block->index;
  where.thread = unsigned(f.thread);
  where.block = f.block->serial;
  where.epoch = f.block->epoch;
  where.cluster = f.block->cluster;
  where.cluster_epoch = f.block->cluster_epoch;
  where.warp_epoch = f.block->warps[f.thread / 32].epoch;
  where.stack_begin = f.stack;
  where.stack_end = f.stack + stack_size;
  where.shared_begin = f.block->arena;
  where.shared_end = f.block->arena + s.config->dynamicSmemBytes + red_zone * (max_pieces + 1);
}

void change(Context& from, void** fake_stack, Context& to, const void* bottom, size_t size) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(fake_stack, bottom, size);
  Context::change(from, to);
}
void arrived(void* fake_stack, const void** bottom = nullptr, size_t* size = nullptr) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
}

Fiber* next_ready(Block& b) {
  if (b.ready.empty()) return nullptr;
  if (order == Order::random) std::swap(b.ready.back(), b.ready[random_bits() % b.ready.size()]);
  Fiber* f = order == Order::forward ? b.ready.front() : b.ready.back();
  if (order == Order::forward)
    b.ready.pop_front();
  else
    b.ready.pop_back();
  return f;
}

// Leaves the current thread for another of its block, or for run(); comes back when the thread is
// chosen again.
void switch_away() {
  Fiber& from = *s.current;
  Fiber* to = s.failed ? nullptr : next_ready(*from.block);
  if (to == &from) return enter(from);
  void** fake = from.done ? nullptr : &from.fake_stack;
  if (to) {
    enter(*to);
    change(from.context, fake, to->context, to->stack, stack_size);
  } else {
    change(from.context, fake, s.main, s.main_bottom, s.main_size);
  }
  arrived(from.fake_stack);
}

[[noreturn]] void fail(
    const std::string& text) {  // ends the launch: the threads are given up where they stand
  note_problem(text);
  s.failed = true;
  for (;;) switch_away();
}

void try_warp(Block& b, int warp);

void fiber_main() {
  const bool first_ever = s.main_bottom == nullptr;
  arrived(nullptr, first_ever ? &s.main_bottom : nullptr, first_ever ? &s.main_size : nullptr);
  s.body(s.arguments);
  Fiber& f = *s.current;
  f.done = true;
  s.progress = true;
  --f.block->alive;
  f.block->warps[f.thread / 32].alive &= ~(1u << lane());
  try_warp(*f.block, f.thread / 32);  // the others of its warp no longer wait for it
  for (;;) switch_away();
}

void start_fiber(Fiber& f) {
  if (free_stacks.empty()) {
    char* p = static_cast<char*>(mmap(nullptr, stack_size, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (p == MAP_FAILED) {
      std::perror("cuda_on_cpu: no memory for a thread's stack");
      std::abort();
    }
    static int stacks = 0;
    if (++stacks <= 8192)
      mprotect(p, 4096, PROT_NONE);  // a guard page; Linux allows a process some 65000 mappings
    free_stacks.push_back(p);
  }
  f.stack = free_stacks.back();
  free_stacks.pop_back();
  f.context.prepare(f.stack, stack_size, fiber_main);
}

void release(Fiber& f) {
  f.wait = Wait::none;
  f.block->ready.push_back(&f);
  s.progress = true;
}

// ---- blocks ----
std::unique_ptr<Block> start_block(unsigned rank) {
  const dim3 grid = s.config->gridDim, size = s.config->blockDim;
  auto b = std::make_unique<Block>();
  b->rank = rank;
  b->serial = ++s.serial;
  b->cluster =
      rank % s.cluster ? s.living.back()->cluster : b->serial;  // the serial of its first block
  b->index = {rank % grid.x, rank / grid.x % grid.y, rank / grid.x / grid.y};
  b->alive = int(s.threads);
  b->warps.resize((s.threads + 31) / 32);
  const size_t bytes = s.config->dynamicSmemBytes + red_zone * (max_pieces + 1);
  b->arena = static_cast<char*>(std::aligned_alloc(128, (bytes + 127) / 128 * 128));
  raw_poison(b->arena, bytes);
  if (__asan_poison_memory_region) __asan_poison_memory_region(b->arena, bytes);
  for (unsigned t = 0; t < s.threads; ++t) {
    b->fibers.push_back(std::make_unique<Fiber>());
    Fiber& f = *b->fibers.back();
    f.block = b.get();
    f.thread = int(t);
    f.index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
    start_fiber(f);
    b->ready.push_back(&f);
    b->warps[t / 32].alive |= 1u << t % 32;
  }
  b->put_aside.assign(static_bytes(), char(0xff));
  return b;
}

void end_block(Block& b) {
  if (b.last_visit == int64_t(b.cluster_epoch) && !s.failed)
    note_problem("shared memory of block " + triple(b.index) +
                 " is used after its last barrier of the cluster: the block may have returned");
  for (auto& f : b.fibers) {
    if (!f->done && __asan_unpoison_memory_region)
      __asan_unpoison_memory_region(f->stack, stack_size);
    free_stacks.push_back(f->stack);
  }
  if (__asan_unpoison_memory_region)
    __asan_unpoison_memory_region(b.arena,
                                  s.config->dynamicSmemBytes + red_zone * (max_pieces + 1));
  std::free(b.arena);
}

void load(Block& b) {  // brings its static shared memory into place
  if (s.loaded == &b) return;
  if (s.loaded) raw_copy(s.loaded->put_aside.data(), __start_cuda_shared, static_bytes());
  raw_copy(__start_cuda_shared, b.put_aside.data(), static_bytes());
  s.loaded = &b;
}

void say_where_all_stand() {
  std::string text = "the kernel is stuck";
  int blocks = 0;
  for (auto& b : s.living) {
    if (b->alive == 0 || ++blocks > 2) continue;
    std::map<std::string, std::pair<int, Fiber*>> groups;
    for (auto& f : b->fibers) {
      std::string what = f->done ? "returned" : "waits at " + place(*f);
      char mask[32] = "";
      if (!f->done && f->wait >= Wait::warp)
        std::snprintf(mask, sizeof mask, " with mask %08x", f->mask);
      auto& g = groups[what + mask];
      if (g.first++ == 0) g.second = f.get();
    }
    text += "; block " + triple(b->index) + ":";
    for (auto& [what, g] : groups)
      text += " [" + std::to_string(g.first) + " threads, first " + triple(g.second->index) + ": " +
              what + "]";
  }
  note_problem(text);
}

void run_living() {  // until all threads have returned, none can go on, or something was wrong
  unsigned long idle = 0;
  while (!s.failed) {
    bool any = false;
    s.progress = false;
    for (auto& b : s.living) {
      b->ready.insert(b->ready.end(), b->later.begin(), b->later.end());
      b->later.clear();
    }
    for (auto& b : s.living) {
      Fiber* f = s.failed ? nullptr : next_ready(*b);
      if (!f) continue;
      any = true;
      load(*b);
      enter(*f);
      where.in_kernel = true;
      change(s.main, &s.main_fake_stack, f->context, f->stack, stack_size);
      arrived(s.main_fake_stack);
      where.in_kernel = false;
    }
    idle = s.progress ? 0 : idle + 1;
    if (any && idle < max_idle_rounds) continue;
    for (auto& b : s.living)
      if (b->alive && !s.failed) return say_where_all_stand();
    return;
  }
}

// ---- products of tiles ----
float towards_zero(double x) {
  const float f = float(x);
  return std::fabs(double(f)) > std::fabs(x) ? std::nextafter(f, 0.0f) : f;
}

template <int K, class Input>
void multiply_tile(const Fragments* const (&lanes)[32], const Input& input) {
  double a[16][K], b[K][8];
  for (int l = 0; l < 32; ++l) {
    const int group = l / 4, in_group = l % 4;
    if constexpr (K == 16) {  // two numbers a register, of neighbouring k
      for (int i = 0; i < 8; ++i)
        a[group + i / 2 % 2 * 8][2 * in_group + i % 2 + i / 4 * 8] = input(lanes[l]->a, i);
      for (int i = 0; i < 4; ++i)
        b[2 * in_group + i % 2 + i / 2 * 8][group] = input(lanes[l]->b, i);
    } else {
      for (int i = 0; i < 4; ++i)
        a[group + i % 2 * 8][in_group + i / 2 * 4] = input(lanes[l]->a, i);
      for (int i = 0; i < 2; ++i) b[in_group + i * 4][group] = input(lanes[l]->b, i);
    }
  }
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
      if (lanes[l]->tile == Tile::f64_m16n8k8) {
        double& d = static_cast<double*>(lanes[l]->d)[i];
        for (int k = 0; k < K; ++k) d = std::fma(a[row][k], b[k][column], d);
      } else {
        float& d = static_cast<float*>(lanes[l]->d)[i];
        double sum = d;
        for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
        d = towards_zero(sum);
      }
    }
}

void multiply_tile(const Fragments* const (&lanes)[32]) {
  switch (lanes[0]->tile) {
    case Tile::tf32_m16n8k8:
      return multiply_tile<8>(lanes, [](const void* p, int i) {
        const unsigned bits = static_cast<const unsigned*>(p)[i];
        return double(__uint_as_float(bits & ~0x1fffu));
      });
    case Tile::bf16_m16n8k16:
      return multiply_tile<16>(lanes, [](const void* p, int i) {
        return double(__bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]));
      });
    case Tile::f64_m16n8k8:
      return multiply_tile<8>(
          lanes, [](const void* p, int i) { return static_cast<const double*>(p)[i]; });
  }
}

// ---- warp operations ----
// Carries the operation out once all lanes it names that have not returned are waiting in it.
void try_warp(Block& b, int warp) {
  const int count = std::min(32, int(b.fibers.size()) - warp * 32);
  auto lane_of = [&](int l) { return l < count ? b.fibers[warp * 32 + l].get() : nullptr; };
  unsigned seen = 0;
  for (int l = 0; l < count; ++l) {
    Fiber& f = *lane_of(l);
    if (f.done || f.wait < Wait::warp || (seen >> l & 1)) continue;
    bool complete = true;
    uint64_t votes = 0;
    for (int k = 0; k < 32 && complete; ++k) {
      Fiber* g = f.mask >> k & 1 ? lane_of(k) : nullptr;
      if (!g || g->done) continue;
      complete = g->wait == f.wait && g->mask == f.mask && g->line == f.line &&
                 !std::strcmp(g->file, f.file) && g->name == f.name;
      votes |= (g->value & 1) << k;
      seen |= 1u << k;
    }
    if (!complete) continue;
    uint64_t results[32] = {};
    if (f.wait == Wait::product) {
      const Fragments* fragments[32];
      for (int k = 0; k < 32; ++k) {
        const Fiber* g = lane_of(k);
        if (!g || g->done) fail(place(f) + " needs all 32 lanes of the warp");
        fragments[k] = reinterpret_cast<const Fragments*>(g->value);
      }
      multiply_tile(fragments);
    }
    for (int k = 0; k < count; ++k) {
      Fiber* g = lane_of(k);
      if (!(f.mask >> k & 1) || g->done) continue;
      Fiber* source = lane_of(g->source);
      if (f.wait == Wait::shuffle && (!(f.mask >> g->source & 1) || !source || source->done)) {
        char text[200];
        std::snprintf(text, sizeof text, ": lane %d of warp %d reads lane %d, which %s (mask %08x)",
                      k, warp, g->source,
                      !source        ? "does not exist"
                      : source->done ? "has returned"
                                     : "is not in the mask",
                      f.mask);
        fail(place(f) + text);
      }
      results[k] = f.wait == Wait::ballot ? votes : f.wait == Wait::shuffle ? source->value : 0;
    }
    if (f.wait == Wait::warp) ++b.warps[warp].epoch;
    const unsigned mask = f.mask;
    for (int k = 0; k < count; ++k)
      if (mask >> k & 1 && !lane_of(k)->done) {
        lane_of(k)->value = results[k];
        --b.warps[warp].waiting;
        release(*lane_of(k));
      }
  }
}
}  // namespace

static bool is_left_out(const char* file, int line) {
  const size_t size = std::strlen(file), end = left_out_file.size();
  return end && line == left_out_line && size >= end &&
         !std::strcmp(file + size - end, left_out_file.c_str());
}

// ---- what the header calls ----
void barrier(Wait kind, const char* name, const char* file, int line) {
  if (is_left_out(file, line)) return;
  Fiber& f = *s.current;
  f.wait = kind, f.name = name, f.file = file, f.line = line;
  if (kind == Wait::grid && !s.cooperative)
    fail(place(f) + " in a kernel that was not launched cooperatively");
  auto all_at = [&](auto&& fibers_of) {  // all are here: at the same line?
    for (Block* b : fibers_of)
      for (auto& g : b->fibers)
        if (g->line != line || std::strcmp(g->file, file)) return false;
    return true;
  };
  if (kind == Wait::block) {
    Block& b = *f.block;
    if (++b.waiting == int(s.threads) && all_at(std::vector<Block*>{&b})) {
      b.waiting = 0, ++b.epoch;
      for (auto& g : b.fibers) release(*g);
    }
  } else {
    std::vector<Block*> group;
    for (auto& b : s.living)
      if (kind == Wait::grid || b->rank / s.cluster == f.block->rank / s.cluster)
        group.push_back(b.get());
    size_t waiting = 0;
    ++f.block->waiting;
    for (Block* b : group) waiting += size_t(b->waiting);
    if (waiting == group.size() * s.threads && all_at(group)) {
      if (kind == Wait::grid) ++where.phase;
      for (Block* b : group) {
        b->waiting = 0, ++b->epoch, ++b->cluster_epoch;
        for (auto& g : b->fibers) release(*g);
      }
    }
  }
  switch_away();
}

uint64_t exchange(Wait kind, const char* name, unsigned mask, uint64_t value, int source,
                  const char* file, int line) {
  Fiber& f = *s.current;
  f.wait = kind, f.name = name, f.file = file, f.line = line;
  f.mask = mask, f.value = value, f.source = source;
  if (!(mask >> lane() & 1))
    fail(place(f) + ": thread " + triple(f.index) +
         " calls it with a mask that does not name its own lane");
  Block::Warp& warp = f.block->warps[f.thread / 32];
  if (++warp.waiting >= __builtin_popcount(mask & warp.alive)) try_warp(*f.block, f.thread / 32);
  switch_away();
  return f.value;
}

void multiply_fragments(Tile tile, void* d, const void* a, const void* b, const char* file,
                        int line) {
  const Fragments mine{tile, d, a, b};
  exchange(Wait::product, "mma.sync", ~0u, reinterpret_cast<uint64_t>(&mine), lane(), file, line);
}

int lane() { return s.current->thread % 32; }
unsigned active_lanes() { return s.current->block->warps[s.current->thread / 32].alive; }
void yield() {
  s.current->name = "__nanosleep", s.current->file = "a polling loop", s.current->line = 0;
  s.current->block->later.push_back(s.current);
  switch_away();
}

char* shared_piece(int number, size_t offset, size_t bytes) {
  if (offset + bytes > s.config->dynamicSmemBytes)
    fail("dynamic shared memory: the kernel takes " + std::to_string(offset + bytes) +
         " bytes, the launch asked for " + std::to_string(s.config->dynamicSmemBytes));
  char* p =
      s.current->block->arena + offset + red_zone * size_t(std::min<int>(number + 1, max_pieces));
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, bytes);
  return p;
}
char* dynamic_shared() {
  char* p = s.current->block->arena + red_zone;
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, s.config->dynamicSmemBytes);
  return p;
}
unsigned cluster_size() { return s.cluster; }
unsigned cluster_rank() { return s.current->block->rank % s.cluster; }
void* of_block_in_cluster(void* p, unsigned rank) {
  if (rank >= s.cluster)
    fail("map_shared_rank(" + std::to_string(rank) + ") in a cluster of " +
         std::to_string(s.cluster));
  Block& mine = *s.current->block;
  for (auto& b : s.living) {
    if (b->rank != mine.rank / s.cluster * s.cluster + rank || b.get() == &mine) continue;
    char* c = static_cast<char*>(p);
    return is_static(p) ? b->put_aside.data() + (c - __start_cuda_shared)
                        : b->arena + (c - mine.arena);
  }
  return p;
}

void note_atomic(const void* p, size_t size) {
  if (racecheck_access) racecheck_access(p, size, true, true, __builtin_return_address(0));
}

// ---- host side ----
bool is_shared(const char*& p) {
  const Block& mine = *s.current->block;
  if (is_static(p)) return p = mine.put_aside.data() + (p - __start_cuda_shared), true;
  if (p >= where.shared_begin && p < where.shared_end) return true;
  if (s.cluster > 1)
    for (auto& b : s.living)
      if (b->cluster == mine.cluster &&
          ((p >= b->arena && p < b->arena + (where.shared_end - where.shared_begin)) ||
           (p >= b->put_aside.data() && p < b->put_aside.data() + static_bytes()))) {
        if (b->cluster_epoch == 0)
          note_problem("shared memory of block " + triple(b->index) +
                       " is used before a barrier of the cluster: the block may not have started");
        b->last_visit = b->cluster_epoch;
        return true;
      }
  return false;
}
void note_problem(const std::string& text) {
  if (report.empty()) report = text;
}
std::string thread_name(uint32_t t) {
  const dim3 d = s.config->blockDim;
  return triple({t % d.x, t / d.x % d.y, t / d.x / d.y});
}
const char* last_report() { return report.c_str(); }
void set_order(Order o, unsigned seed) {
  order = o;
  random_bits.seed(seed + 1);
}
void set_multiprocessors(int count) { multiprocessors = count; }
void set_capability(int major) { capability = major; }
void leave_out(const char* file, int line) { left_out_file = file, left_out_line = line; }
static const bool environment_read = [] {
  if (const char* o = std::getenv("CUDA_ON_CPU_ORDER"))
    set_order(!std::strcmp(o, "forward")   ? Order::forward
              : !std::strcmp(o, "reverse") ? Order::reverse
                                           : Order::random,
              unsigned(std::atoi(o)));
  if (const char* n = std::getenv("CUDA_ON_CPU_SMS")) multiprocessors = std::atoi(n);
  return true;
}();

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || size_t(value) > max_shared) return last_error = cudaErrorInvalidValue;
    shared_limit[kernel] = value;
  }
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) large_clusters[kernel] = value;
  return cudaSuccess;
}
cudaError_t occupancy(int* blocks, int threads, size_t shared) {
  const int warps = (threads + 31) / 32;
  *blocks = threads < 1 || threads > 1024 || shared > max_shared
                ? 0
                : std::min({32, 64 / warps, int((228 << 10) / (shared + 1024))});
  return cudaSuccess;
}

// Every multiprocessor counts; a GPU's clusters lie in groups of multiprocessors, which may leave
// some out.
cudaError_t active_clusters(int* clusters, const void* kernel, const cudaLaunchConfig_t& config) {
  unsigned size = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
      const auto& dim = config.attrs[i].val.clusterDim;
      size = dim.x * dim.y * dim.z;
    }
  const auto large = large_clusters.find(kernel);
  const bool large_allowed = large != large_clusters.end() && large->second;
  if (size == 0 || size > (large_allowed ? 16u : 8u) || (size > 1 && capability < 9))
    return last_error = cudaErrorInvalidClusterSize;
  const dim3 block = config.blockDim;
  int blocks = 0;
  occupancy(&blocks, int(block.x * block.y * block.z), config.dynamicSmemBytes);
  *clusters = blocks * multiprocessors / int(size);
  return cudaSuccess;
}

cudaError_t run(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(void*),
                void* arguments) {
  std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  report.clear();
  const dim3 grid = config.gridDim, block = config.blockDim;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z,
                 threads = uint64_t(block.x) * block.y * block.z;
  if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || threads == 0 ||
      threads > 1024 || block.z > 64)
    return last_error = cudaErrorInvalidConfiguration;
  const auto limit = shared_limit.find(kernel);
  if (config.dynamicSmemBytes >
      size_t(limit == shared_limit.end() ? 48 << 10 : std::max(limit->second, 48 << 10)))
    return last_error = cudaErrorInvalidValue;
  s.config = &config, s.body = body, s.arguments = arguments;
  s.threads = unsigned(threads), s.cooperative = s.failed = false, s.cluster = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& a = config.attrs[i];
    if (a.id == cudaLaunchAttributeCooperative) s.cooperative = a.val.cooperative != 0;
    if (a.id == cudaLaunchAttributeClusterDimension)
      s.cluster = a.val.clusterDim.x * a.val.clusterDim.y * a.val.clusterDim.z;
  }
  if (s.cluster == 0 || blocks % s.cluster) return last_error = cudaErrorInvalidConfiguration;
  int clusters = 0;
  if (s.cluster > 1) {
    const cudaError_t error = active_clusters(&clusters, kernel, config);
    if (error != cudaSuccess) return error;
    if (clusters < 1) return last_error = cudaErrorInvalidClusterSize;
  }
  int fit = 0;
  occupancy(&fit, int(threads), config.dynamicSmemBytes);
  if (s.cooperative && blocks > uint64_t(fit) * unsigned(multiprocessors))
    return last_error = cudaErrorCooperativeLaunchTooLarge;

  blockDim = block, gridDim = grid;
  ++where.phase;
  s.main_bottom = nullptr;
  const unsigned at_once = s.cooperative ? unsigned(blocks) : s.cluster,
                 rounds = unsigned(blocks / at_once);
  std::vector<unsigned> turn(rounds);
  for (unsigned i = 0; i < rounds; ++i) turn[i] = order == Order::reverse ? rounds - 1 - i : i;
  if (order == Order::random) std::shuffle(turn.begin(), turn.end(), random_bits);
  for (unsigned i = 0; i < rounds && !s.failed && report.empty(); ++i) {
    for (unsigned k = 0; k < at_once; ++k) s.living.push_back(start_block(turn[i] * at_once + k));
    if (order != Order::forward) std::reverse(s.living.begin(), s.living.end());
    run_living();
    for (auto& b : s.living) end_block(*b);
    s.living.clear();
    s.loaded = nullptr;
  }
  return report.empty() ? cudaSuccess : (last_error = cudaErrorLaunchFailure);
}
}  // namespace cuda_on_cpu

cudaError_t cudaPeekAtLastError() { return cuda_on_cpu::last_error; }
cudaError_t cudaGetLastError() { return std::exchange(cuda_on_cpu::last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorCooperativeLaunchTooLarge:
      return "too many blocks in cooperative launch";
    case cudaErrorInvalidClusterSize:
      return "invalid cluster size";
    case cudaErrorLaunchFailure:
      return cuda_on_cpu::last_report();
  }
  return "unknown error";
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr a, int) {
  *value = a == cudaDevAttrMultiProcessorCount            ? cuda_on_cpu::multiprocessors
           : a == cudaDevAttrComputeCapabilityMajor       ? cuda_on_cpu::capability
           : a == cudaDevAttrClusterLaunch                ? cuda_on_cpu::capability >= 9
           : a == cudaDevAttrCooperativeLaunch            ? 1
           : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? int(cuda_on_cpu::max_shared)
                                                          : 0;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  *p = std::malloc(bytes ? bytes : 1);
  if (!*p) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xff, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) { return std::free(p), cudaSuccess; }

// For the tests, which are in Python. order: negative for reverse, 0 for forward, else a seed.
extern "C" {
void cuda_on_cpu_order(int order) {
  using cuda_on_cpu::Order;
  cuda_on_cpu::set_order(order < 0    ? Order::reverse
                         : order == 0 ? Order::forward
                                      : Order::random,
                         unsigned(order));
}
void cuda_on_cpu_multiprocessors(int count) { cuda_on_cpu::set_multiprocessors(count); }
void cuda_on_cpu_capability(int major) { cuda_on_cpu::set_capability(major); }
void cuda_on_cpu_leave_out(const char* file, int line) { cuda_on_cpu::leave_out(file, line); }
}
