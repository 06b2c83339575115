// fsync for files that must survive a power cut.
#ifndef ANGEL_PTM_BASE_FILE_SYNC_H_
#define ANGEL_PTM_BASE_FILE_SYNC_H_

namespace angel_ptm {

// Like fsync, but retries when a signal interrupts it. Returns 0, or -1 with errno set.
int SyncFile(int fd);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_SYNC_H_
