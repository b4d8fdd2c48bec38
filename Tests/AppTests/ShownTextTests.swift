import Testing

@testable import App

/// What the command line shows, without a daemon.
struct ShownTextTests {
  @Test(
    arguments: [
      (0, 500_000_000, "  out  [                       ]    0 %  0 B of 1.00 GiB  0 MiB/s  0.5 s"),
      (65_536, 500_000_000, "  out  [=====                  ]   25 %  256 MiB of 1.00 GiB  512 MiB/s  0.5 s"),
      (262_144, 2_000_000_000, "  out  [=======================]  100 %  1.00 GiB of 1.00 GiB  512 MiB/s  2.0 s"),
      (300_000, 2_000_000_000, "  out  [=======================]  100 %  1.00 GiB of 1.00 GiB  512 MiB/s  2.0 s"),
      (-1, 0, "  out  [                       ]    0 %  0 B of 1.00 GiB  0 MiB/s  0.0 s"),
    ] as [(Int, UInt64, String)])
  func `a progress line`(_ pages: Int, _ nanoseconds: UInt64, _ text: String) {
    let line = ProgressLine(step: "out", pageBytes: 4096, expectedPages: 262_144)
    #expect(line.text(pages: pages, nanoseconds: nanoseconds, columns: 83) == text)
  }

  @Test func `progress without a known end has no percentage`() {
    let unknown = ProgressLine(step: "out", pageBytes: 4096)
    #expect(unknown.text(pages: 7, nanoseconds: 1_200_000_000, columns: 80) == "  out  1.2 s")
  }

  @Test func `a progress line fits on its terminal`() {
    for columns in 1...200 {
      for pages in [0, 1, 100_000, 262_144] {
        let line = ProgressLine(step: "unregister", pageBytes: 4096, expectedPages: 262_144)
        #expect(line.text(pages: pages, nanoseconds: 12_345_678_900, columns: columns).count < columns)
      }
    }
  }

  @Test(
    arguments: [
      (0, 2, "0.00"), (0.1 + 0.2, 2, "0.30"), (1234.5, 0, "1235"), (99.95, 1, "100.0"), (-0.25, 2, "-0.25"),
      (-12.04, 1, "-12.0"), (-1e-9, 2, "0.00"), (.infinity, 2, "inf"), (-.infinity, 0, "-inf"), (.nan, 1, "nan"),
      (1e300, 0, "1e+300"), (-1e300, 1, "-1e+300"),
    ] as [(Double, Int, String)])
  func `any number has decimals`(_ value: Double, _ count: Int, _ text: String) {
    #expect(ByteSize.decimals(value, count) == text)
  }

  @Test func `one page is no pages`() {
    #expect([0, 1, 2].map { $0.counted("page") } == ["0 pages", "1 page", "2 pages"])
    #expect(2.counted("child", plural: "children") == "2 children")
    #expect(StatusText.block(status("a", faults: 0, ["metrics": ["swap_pages": 1]])).contains("  1 page (4.00 KiB)\n"))
  }

  @Test func `tables line up`() {
    var table = Table(["TENANT", "SIZE", "PIDS"], numbers: [1])
    table.add(["a", "512 MiB", "1,2"])
    table.add(["a-long-name", "0 B", ""])
    #expect(
      table.text == """
        TENANT          SIZE  PIDS
        a            512 MiB  1,2
        a-long-name      0 B

        """)
  }

  private func status(_ name: String, faults: Int, _ more: [String: JSONValue] = [:]) -> JSONValue {
    let metrics: JSONValue = ["copied_from_staging_pages": .int(faults), "staging_pages": 256]
    let reply: [String: JSONValue] = [
      "tenant": .string(name), "state": "Active", "size": 2_097_152, "page_size": 4096, "metrics": metrics,
    ]
    return .object(reply.merging(more) { _, new in new })
  }

  @Test func `the status of all is a line a tenant`() {
    let replies = [status("a", faults: 7), status("b", faults: 0, ["state": "Ready", "operation": "enable"])]
    #expect(
      StatusText.table(replies) == """
        TENANT  STATE               SIZE  GUEST   STAGING  FILE  FAULTS
        a       Active          2.00 MiB    0 B  1.00 MiB   0 B       7
        b       Ready (enable)  2.00 MiB    0 B  1.00 MiB   0 B       0

        """)
    #expect(StatusText.table(replies, rates: ["a": 3.2]).split(separator: "\n")[1].hasSuffix("0 B         3"))
    #expect(StatusText.table([]) == "no tenants\n")
  }

  @Test func `fault rates are those between two looks, and enable counts anew`() {
    var rates = FaultRates()
    rates.look([status("a", faults: 100)], atNanoseconds: 1_000_000_000)
    #expect(rates.perSecond.isEmpty)
    rates.look([status("a", faults: 150), status("b", faults: 5)], atNanoseconds: 3_000_000_000)
    #expect(rates.perSecond == ["a": 25])
    rates.look([status("a", faults: 10), status("b", faults: 5)], atNanoseconds: 4_000_000_000)
    #expect(rates.perSecond == ["a": 10, "b": 0])
  }

  @Test(
    arguments: [
      ("", "", 0), ("vm1", "vm1", 0), ("", "vm", 2), ("vm1", "vm2", 1), ("vm", "vm1", 1), ("vm12", "vm1", 1),
      ("mv1", "vm1", 2), ("kitten", "sitting", 3),
    ] as [(String, String, Int)])
  func `distances of names`(_ one: String, _ other: String, _ distance: Int) {
    #expect(TenantHint.distance(one, other) == distance)
    #expect(TenantHint.distance(other, one) == distance)
  }

  @Test func `an unknown tenant is told which there are`() {
    #expect(
      TenantHint.text(for: "web-2", among: ["db", "web-1"])
        == #"there is no tenant "web-2"; did you mean "web-1"? Tenants: db, web-1"#)
    #expect(TenantHint.text(for: "x", among: ["a", "b"]) == #"there is no tenant "x". Tenants: a, b"#)
    #expect(TenantHint.text(for: "x", among: []).contains("none has registered"))
    let many = TenantHint.text(for: "nothing-like-it", among: (1...13).map { "vm\($0)" })
    #expect(many.hasSuffix("vm9, vm10 and 3 more"), "\(many)")
  }
}
