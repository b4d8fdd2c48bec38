/* A guest without a kernel, for virtual machines whose processor is a real one (KVM): like guest.swift, it fills memory with
   content that can be told right from wrong, takes commands at the serial port, a line each, and answers with a line of JSON.
   32-bit protected mode as the Multiboot specification hands it over, without paging and without interrupts. There are
   machines whose KVM interprets such code, a million instructions a second; so a few words of each page stand for all. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { page_bytes = 4096, words = page_bytes / 4, stride = words / 4, most_pages = 1 << 18, pages_at_once = 16 };
/* All above the program is memory. */
static u8 *const memory = (u8 *)(16 << 20);

/* Magic, flags, checksum; the loader takes addresses and entry from the ELF headers. */
__attribute__((section(".multiboot"), used, aligned(4))) static const u32 multiboot[] = {0x1BADB002, 0, -0x1BADB002u};

static u8 stack[1 << 16] __attribute__((used, aligned(16)));
__asm__(".globl _start\n_start: lea stack + 65536, %esp\n call serve\n");

static u8 generations[most_pages];
static u32 page_count, checked, wrong;
static u64 state = 1;

static inline void out(u32 port, u8 value) { __asm__ volatile("outb %b0, %w1" : : "a"(value), "Nd"(port)); }
static inline u8 in(u32 port) {
  u8 value;
  __asm__ volatile("inb %w1, %b0" : "=a"(value) : "Nd"(port));
  return value;
}

enum { serial = 0x3F8, line_status = serial + 5, has_input = 1, may_output = 0x20 };

static void say(const char *text) {
  for (; *text; text++) {
    while (!(in(line_status) & may_output)) {
    }
    out(serial, *text);
  }
}

static void say_number(const char *name, u32 number) {
  char digits[11], *digit = digits + 10;
  *digit = 0;
  do *--digit = '0' + number % 10;
  while (number /= 10);
  say(name);
  say(digit);
}

static u32 mix(u32 word) {
  word = (word ^ word >> 16) * 0x7FEB352Du;
  word = (word ^ word >> 15) * 0x846CA68Bu;
  return word ^ word >> 16;
}

static u32 below(u32 limit) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return limit ? (u32)(state >> 32) % limit : 0;
}

/* The first word of a page, and what each is more than the one before it. Some pages are all zeros, as in any machine. */
static u32 pattern(u32 page, u32 *step) {
  u32 generation = generations[page];
  int is_zero = (page + generation) % 8 == 0;
  *step = is_zero ? 0 : 0x9E3779B9u;
  return is_zero ? 0 : mix(page << 8 | generation);
}

static void write(u32 page) {
  volatile u32 *target = (volatile u32 *)(memory + page * page_bytes);
  u32 step, word = pattern(page, &step);
  for (u32 index = 0; index < words; index += stride, word += step) target[index] = word;
}

static void rewrite(u32 page) {
  generations[page]++;
  write(page);
}

static void check(u32 page) {
  volatile u32 *source = (volatile u32 *)(memory + page * page_bytes);
  u32 step, word = pattern(page, &step);
  for (u32 index = 0; index < words; index += stride, word += step)
    for (u32 difference = source[index] ^ word; difference; difference >>= 8) wrong += (difference & 0xFF) != 0;
  checked++;
}

static void report(void) {
  say_number("{\"pages\":", page_count);
  say_number(",\"checked\":", checked);
  say_number(",\"wrong\":", wrong);
  say("}\n");
  checked = 0;
}

static int starts(const char *line, const char *word) {
  while (*word && *line == *word) line++, word++;
  return !*word;
}

static u32 number(const char *line) {
  u32 value = 0;
  for (; *line; line++)
    if (*line >= '0' && *line <= '9') value = value * 10 + (*line - '0');
  return value;
}

static int is_running;

static void obey(const char *line) {
  u32 count = number(line);
  if (starts(line, "resize")) {
    u32 before = page_count;
    page_count = count << 8 < most_pages ? count << 8 : most_pages;
    for (u32 page = before; page < page_count; page++) write(page);
  } else if (starts(line, "rewrite")) {
    while (count--) rewrite(below(page_count));
  } else if (starts(line, "check")) {
    for (u32 page = 0; page < page_count; page++) check(page);
  } else if (starts(line, "sample")) {
    while (count--) check(below(page_count));
  } else if (starts(line, "spoil")) {
    memory[count * page_bytes + stride * 4 + 1] ^= 1;
  } else if (starts(line, "run") || starts(line, "rest")) {
    is_running = line[1] == 'u';
  }
  report();
}

__attribute__((used)) static void serve(void) {
  static char line[64];
  u32 length = 0;
  report();
  for (;;) {
    if (in(line_status) & has_input) {
      char byte = in(serial);
      if (byte == '\n') {
        line[length] = 0;
        length = 0;
        obey(line);
      } else if (length < sizeof line - 1)
        line[length++] = byte;
    } else if (is_running && page_count) {
      for (u32 count = 0; count < pages_at_once; count++) {
        u32 page = below(page_count);
        check(page);
        if (page % 4 == 0) rewrite(page);
      }
    }
  }
}
