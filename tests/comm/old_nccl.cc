// A library with NCCL's function names and an old version number.
extern "C" {
int ncclGetVersion(int* version) {
  *version = 21805;
  return 0;
}
void ncclGetErrorString() {}
void ncclGetLastError() {}
void ncclGetUniqueId() {}
void ncclCommInitRankConfig() {}
void ncclCommGetAsyncError() {}
void ncclCommFinalize() {}
void ncclCommDestroy() {}
void ncclCommAbort() {}
void ncclGroupStart() {}
void ncclGroupEnd() {}
void ncclAllGather() {}
void ncclSend() {}
void ncclRecv() {}
void ncclReduce() {}
}
