// One input of libFuzzer's (https://llvm.org/docs/LibFuzzer.html).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: data, count: count))
  #if EVENTS
    FuzzTargets.events(bytes)
  #else
    FuzzTargets.request(bytes)
  #endif
  return 0
}
