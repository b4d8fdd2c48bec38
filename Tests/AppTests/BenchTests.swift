import Glibc
import Testing

@testable import Adapters
@testable import App

/// `swap-monitor bench` itself: every row is measured, and every page is right. How fast it is, no test asks.
@Suite(.enabled(if: hasUserfaultfd), .serialized)
struct BenchTests {
  @Test func `every row is measured, and every page is right`() throws {
    let plot = "\(try Directory.makeTemporary())/plot.svg"
    defer {
      unlink(plot)
      rmdir(String(plot.dropLast("/plot.svg".count)))
    }
    let (report, code) = try report(["bench", "--memory", "32M", "--runs", "1", "--plot", plot])
    #expect(code == 0 && report["mismatched_pages"] == 0 && report["verified"] == true, "\(report)")
    let rows = report["rows"]?.elements ?? []
    let names = rows.compactMap { $0["name"]?.text }
    let hasHugePages = names.contains { $0.hasPrefix("huge-") }
    let isLeftOut = { (name: String) in name.hasPrefix("kernel-") || name.hasPrefix("huge-") && !hasHugePages }
    #expect(names == BenchRow.all.map(\.name).filter { !isLeftOut($0) })
    #expect(hasHugePages || "\(report["notes"] ?? .null)".contains("shmem_enabled"), "\(report)")
    for key in ["day", "kernel", "processor", "swap_filesystem", "shmem_huge_pages"] {
      #expect(!["", "?"].contains(report["machine"]?[key]?.text ?? ""), "\(key): \(report)")
    }
    #expect(report["machine"]?["processors"]?.int ?? 0 > 0 && report["machine"]?["memory_bytes"]?.int ?? 0 > 0)
    for row in rows {
      let hasLimit = BenchRow.all.first { $0.name == row["name"]?.text }?.hasLimit
      #expect((row["limit"] != .null && row["ratio"] != .null) == hasLimit, "\(row)")
      #expect(row["unit"] != nil && row["ours"] != nil && row["mark"] != nil && row["holds"] != nil, "\(row)")
    }
    #expect(readText(plot)?.contains("</svg>") == true)
  }

  @Test func `rows can be chosen`() throws {
    let (report, code) = try report([
      "bench", "--memory", "16M", "--runs", "2", "--zero-run", "64", "--only", "move,trim-zero",
    ])
    #expect(code == 0)
    #expect(report["rows"]?.elements?.map { $0["name"] } == ["move", "trim-zero"])
  }

  /// The kernel's own swap is compared by hand only: a swap file is there for the whole machine, and other tests limit memory.
  @Test func `huge pages are made where that is asked, or it is told why not`() throws {
    let (report, code) = try report(["bench", "--memory", "16M", "--runs", "1", "--only", "huge", "--collapse"])
    #expect(code == 0 && report["verified"] == true, "\(report)")
    let names = report["rows"]?.elements?.map { $0["name"] }
    let isToldWhy = "\(report["notes"] ?? .null)".contains("are left out")
    #expect(names == (isToldWhy ? [] : ["huge-move", "huge-in-staging", "huge-whole"]), "\(report)")
    if access("/sys/kernel/mm/transparent_hugepage/shmem_enabled", F_OK) == 0 { #expect(!isToldWhy, "\(report)") }
  }

  @Test func `wrong words are a wrong use`() throws {
    for words in [["--runs", "0"], ["--memory", "1K"], ["--only", "x"], ["--compare", "x"], ["more"]] {
      let (report, code) = try report(["bench"] + words)
      #expect(code == 2 && report["error"]?["code"] == "usage")
    }
  }
}
