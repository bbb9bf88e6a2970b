//! The PROXY protocol, versions 1 and 2, as bytes: what a balancer in front of the gateway says of a
//! client, and what the gateway says to its backends. No socket comes in here.
