// Datagrams, which may be lost, duplicated and reordered. For signs of life, where the next one comes soon.
#ifndef ANGEL_PTM_COMM_UDP_SOCKET_H_
#define ANGEL_PTM_COMM_UDP_SOCKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Trivially copyable, so that it can be sent.
struct UdpAddress {
  std::array<uint8_t, 16> ip = {};  // IPv6, in network order; IPv4 as the mapped ::ffff:a.b.c.d
  int32_t port = 0;
};

class UdpSocket {
 public:
  // Opens a socket for IPv6 and IPv4, or for IPv4 alone where the machine has nothing else, on all addresses and a free
  // port.
  static absl::StatusOr<std::unique_ptr<UdpSocket>> Open();
  ~UdpSocket();

  int port() const { return port_; }

  // Never blocks; what cannot be sent is lost.
  void Send(const UdpAddress& to, std::span<const std::byte> datagram);
  // Returns the datagram's size in bytes, of which as many as fit are in `buffer`; 0 if none came within `seconds`.
  int64_t Receive(double seconds, std::span<std::byte> buffer, UdpAddress* from);

 private:
  UdpSocket(int descriptor, bool ipv6) : descriptor_(descriptor), ipv6_(ipv6) {}

  const int descriptor_;
  const bool ipv6_;
  int port_ = 0;
};

// Where a socket with this port can be reached: at most `count_max` addresses, loopback addresses last. Empty if the
// machine does not say.
std::vector<UdpAddress> AddressesOfThisMachine(int port, size_t count_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_UDP_SOCKET_H_
