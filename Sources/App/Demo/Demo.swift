enum Demo {
  struct Failure: Error { let message: String }
  static func run(_ words: [String]) throws {}
}
enum DemoTenant {
  static let command = "demo-tenant"
  static func run(_ words: [String]) throws {}
}
