//! Calls on sockets.

use libc::{EAFNOSUPPORT, ENOPROTOOPT, EPROTONOSUPPORT};

use crate::seccomp::rule::{Answer, Checks, Condition, low, masked};

/// Allowed are Unix sockets, and IP sockets with the usual protocols. SCTP, DCCP, L2TP and others
/// load drivers on demand, and so does a type with a protocol that does not fit it. The kernel's
/// replies in a netlink socket are memory for which no control group is charged. The kernel refuses
/// raw sockets. Libraries try sockets that they can do without, as OpenSSL does with AF_ALG.
pub(crate) const SOCKET: Checks = Checks {
    cases: &[
        (&[low(0, &[libc::AF_UNIX as u32])], Answer::Allow),
        (&[low(0, IP), STREAM, low(2, &[0, libc::IPPROTO_TCP as u32])], Answer::Allow),
        (&[low(0, IP), DGRAM, low(2, &[0, libc::IPPROTO_UDP as u32])], Answer::Allow),
        (&[low(0, IP4), DGRAM, low(2, &[libc::IPPROTO_ICMP as u32])], Answer::Allow),
        (&[low(0, IP6), DGRAM, low(2, &[libc::IPPROTO_ICMPV6 as u32])], Answer::Allow),
        (&[low(0, IP), RAW], Answer::Allow),
        (&[low(0, IP)], Answer::Refuse(EPROTONOSUPPORT)),
    ],
    default: Answer::Refuse(EAFNOSUPPORT),
};
const STREAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_STREAM as u32]);
const DGRAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_DGRAM as u32]);
const RAW: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_RAW as u32]);

/// The argument also has the flags SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCK_TYPE_MASK: u32 = 0xf;
const IP4: &[u32] = &[libc::AF_INET as u32];
const IP6: &[u32] = &[libc::AF_INET6 as u32];
const IP: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Allowed are the options that ordinary programs set, and that neither allocate memory nor change
/// anything beyond their socket. Others load modules (`TCP_CONGESTION`, `TCP_ULP`), or allocate
/// memory for which no control group is charged (filters, `TCP_MD5SIG`, multicast groups and their
/// sources), or belong to the whole machine (flow labels; `SO_TIMESTAMP` and `UDP_GRO`, which
/// patch the kernel's code when the first socket sets them and when the last one closes).
pub(crate) const SETSOCKOPT: Checks = Checks {
    cases: &[
        (&[low(1, &[libc::SOL_SOCKET as u32]), low(2, OF_SOCKETS)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_TCP as u32]), low(2, OF_TCP)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_IP as u32]), low(2, OF_IP4)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_IPV6 as u32]), low(2, OF_IP6)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_UDP as u32]), low(2, OF_UDP)], Answer::Allow),
    ],
    default: Answer::Refuse(ENOPROTOOPT),
};

/// SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE,
/// SO_OOBINLINE, SO_PRIORITY, SO_LINGER, SO_REUSEPORT, SO_PASSCRED, SO_RCVLOWAT, SO_RCVTIMEO and
/// SO_SNDTIMEO in two forms, SO_PASSSEC, SO_RXQ_OVFL, SO_PEEK_OFF, SO_PASSPIDFD, SO_PASSRIGHTS.
const OF_SOCKETS: &[u32] = &[1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 20, 21, 66, 67, 34, 40, 42, 76, 83];

/// TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT,
/// TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_USER_TIMEOUT, TCP_FASTOPEN,
/// TCP_NOTSENT_LOWAT, TCP_FASTOPEN_CONNECT, TCP_INQ.
const OF_TCP: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 23, 25, 30, 36];

/// IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND,
/// IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP,
/// IP_MULTICAST_ALL.
const OF_IP4: &[u32] = &[1, 2, 8, 10, 11, 12, 13, 15, 24, 32, 33, 34, 49];

/// IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP,
/// IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_V6ONLY, IPV6_MULTICAST_ALL, IPV6_RECVPKTINFO,
/// IPV6_RECVHOPLIMIT, IPV6_DONTFRAG, IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_ADDR_PREFERENCES,
/// IPV6_FREEBIND.
const OF_IP6: &[u32] = &[16, 17, 18, 19, 23, 25, 26, 29, 49, 51, 62, 66, 67, 72, 78];

/// UDP_CORK, UDP_SEGMENT.
const OF_UDP: &[u32] = &[1, 103];

pub(crate) const SOCKETPAIR: Checks =
    Checks { cases: &[(&[low(0, &[libc::AF_UNIX as u32])], Answer::Allow)], default: Answer::Refuse(EAFNOSUPPORT) };
