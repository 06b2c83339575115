// fsync, which every file that must survive a power cut needs.
#ifndef ANGEL_PTM_BASE_FILE_SYNC_H_
#define ANGEL_PTM_BASE_FILE_SYNC_H_

namespace angel_ptm {

// As fsync, but a signal does not end it: 0, or -1 with errno.
int SyncFile(int fd);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_SYNC_H_
