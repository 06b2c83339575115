#include "comm/udp_socket.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

// A thousand machines may speak at the same moment.
constexpr int kReceiveBufferBytes = 4 << 20;
constexpr size_t kMappedPrefixBytes = 12;
constexpr std::array<uint8_t, kMappedPrefixBytes> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// An address of either family.
union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

UdpAddress FromIpv4(const in_addr& ip, int port) {
  UdpAddress address{.port = port};
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.ip.begin());
  std::memcpy(address.ip.data() + kMappedPrefixBytes, &ip, sizeof(ip));
  return address;
}

UdpAddress FromIpv6(const in6_addr& ip, int port) {
  UdpAddress address{.port = port};
  std::memcpy(address.ip.data(), &ip, sizeof(ip));
  return address;
}

bool IsIpv4(const UdpAddress& address) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.ip.begin());
}

}  // namespace

absl::StatusOr<std::unique_ptr<UdpSocket>> UdpSocket::Open() {
  const int type = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const auto fails = [](const char* call) {
    return absl::UnavailableError(absl::StrCat("no UDP socket: ", call, ": ", std::strerror(errno)));
  };
  SocketAddress own;
  std::memset(&own, 0, sizeof(own));
  const int off = 0;
  int descriptor = socket(AF_INET6, type, 0);
  own.v6.sin6_family = AF_INET6;
  socklen_t bytes = sizeof(own.v6);
  const bool ipv6 = descriptor >= 0 && setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0 &&
                    bind(descriptor, &own.any, bytes) == 0;
  if (!ipv6) {
    if (descriptor >= 0) close(descriptor);
    descriptor = socket(AF_INET, type, 0);
    if (descriptor < 0) return fails("socket");
    std::memset(&own, 0, sizeof(own));
    own.v4.sin_family = AF_INET;
    bytes = sizeof(own.v4);
  }
  std::unique_ptr<UdpSocket> opened(new UdpSocket(descriptor, ipv6));
  if (!ipv6 && bind(descriptor, &own.any, bytes) != 0) return fails("bind");
  // A smaller buffer is enough for most runs, so it is no error if the machine does not allow this one.
  setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof(kReceiveBufferBytes));
  if (getsockname(descriptor, &own.any, &bytes) != 0) return fails("getsockname");
  opened->port_ = ntohs(ipv6 ? own.v6.sin6_port : own.v4.sin_port);
  return opened;
}

UdpSocket::~UdpSocket() { close(descriptor_); }

void UdpSocket::Send(const UdpAddress& to, std::span<const std::byte> datagram) {
  SocketAddress address;
  std::memset(&address, 0, sizeof(address));
  socklen_t bytes = sizeof(address.v6);
  if (ipv6_) {
    address.v6.sin6_family = AF_INET6;
    address.v6.sin6_port = htons(static_cast<uint16_t>(to.port));
    std::memcpy(&address.v6.sin6_addr, to.ip.data(), to.ip.size());
  } else {
    if (!IsIpv4(to)) return;
    bytes = sizeof(address.v4);
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(static_cast<uint16_t>(to.port));
    std::memcpy(&address.v4.sin_addr, to.ip.data() + kMappedPrefixBytes, sizeof(address.v4.sin_addr));
  }
  // A failed send is as good as a lost datagram: the next one comes soon.
  if (sendto(descriptor_, datagram.data(), datagram.size(), MSG_NOSIGNAL, &address.any, bytes) < 0) return;
}

int64_t UdpSocket::Receive(double seconds, std::span<std::byte> buffer, UdpAddress* from) {
  pollfd wanted = {descriptor_, POLLIN, 0};
  if (poll(&wanted, 1, static_cast<int>(seconds * 1e3)) <= 0) return 0;
  SocketAddress address;
  std::memset(&address, 0, sizeof(address));
  socklen_t bytes = sizeof(address);
  const ssize_t n = recvfrom(descriptor_, buffer.data(), buffer.size(), MSG_TRUNC, &address.any, &bytes);
  if (n <= 0) return 0;
  *from = ipv6_ ? FromIpv6(address.v6.sin6_addr, ntohs(address.v6.sin6_port))
                : FromIpv4(address.v4.sin_addr, ntohs(address.v4.sin_port));
  return n;
}

std::vector<UdpAddress> AddressesOfThisMachine(int port, size_t count_max) {
  std::vector<UdpAddress> addresses, loopback;
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) return addresses;
  for (const ifaddrs* i = interfaces; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    std::vector<UdpAddress>& list = (i->ifa_flags & IFF_LOOPBACK) != 0 ? loopback : addresses;
    SocketAddress address;
    if (i->ifa_addr->sa_family == AF_INET) {
      std::memcpy(&address.v4, i->ifa_addr, sizeof(address.v4));
      list.push_back(FromIpv4(address.v4.sin_addr, port));
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      std::memcpy(&address.v6, i->ifa_addr, sizeof(address.v6));
      // A link-local address says nothing without the interface's name, which differs between machines.
      if (!IN6_IS_ADDR_LINKLOCAL(&address.v6.sin6_addr)) list.push_back(FromIpv6(address.v6.sin6_addr, port));
    }
  }
  freeifaddrs(interfaces);
  addresses.insert(addresses.end(), loopback.begin(), loopback.end());
  addresses.resize(std::min(addresses.size(), count_max));
  return addresses;
}

}  // namespace angel_ptm
