// Datagrams: what may be lost, doubled and overtaken. For signs of life, of which the next one comes soon.
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
  std::array<uint8_t, 16> ip = {};  // IPv6, in network order; of IPv4 the mapped ::ffff:a.b.c.d
  int32_t port = 0;
};

class UdpSocket {
 public:
  // Of IPv6 and IPv4, or of IPv4 alone where the machine has no other; on all addresses, at a port that was free.
  static absl::StatusOr<std::unique_ptr<UdpSocket>> Open();
  ~UdpSocket();

  int port() const { return port_; }

  // Never blocks; what cannot be sent is lost.
  void Send(const UdpAddress& to, std::span<const std::byte> datagram);
  // The bytes of the datagram, of which as many as fit are in `buffer`; 0 when none came within `seconds`.
  int64_t Receive(double seconds, std::span<std::byte> buffer, UdpAddress* from);

 private:
  UdpSocket(int descriptor, bool ipv6) : descriptor_(descriptor), ipv6_(ipv6) {}

  const int descriptor_;
  const bool ipv6_;
  int port_ = 0;
};

// Where a socket with this port can be reached: at most `count_max` addresses, those of the loopback last. Empty if the
// machine does not say.
std::vector<UdpAddress> AddressesOfThisMachine(int port, size_t count_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_UDP_SOCKET_H_
