//! The scripts that Redis runs. Each uses one key and the clock of the server, so that they work in a cluster and with
//! gateways whose clocks differ.

use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A script, and the hash by which a server that has it finds it.
pub(super) struct StoreScript {
    pub(super) code: &'static str,
    pub(super) hash: String,
}

impl StoreScript {
    fn new(code: &'static str) -> Self {
        let mut hash = String::with_capacity(40);
        for byte in Sha1::digest(code) {
            // Writing to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Self { code, hash }
    }
}

/// Takes tokens of a bucket (the generic cell rate algorithm). The key holds the moment at which everything taken is paid
/// for, in microseconds of the server's clock. It is bounded, in case the clock of another server was ahead.
///
/// Arguments: the interval of tokens in microseconds, the tokens of a full bucket, tokens owed, tokens wanted, and the time
/// in microseconds within which tokens may become available. Returns the tokens given, and in microseconds the wait and the
/// time until the bucket is full.
pub(super) static TOKENS: LazyLock<StoreScript> = LazyLock::new(|| {
    StoreScript::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, owed, wanted, queue =
  tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local depth = burst * interval
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
paid = math.max(math.min(paid, now + 8 * depth + queue), now)
paid = math.max(paid + owed * interval, now)
local given = math.max(0, math.min(wanted, math.floor((now + depth + queue - paid) / interval + 0.000001)))
paid = paid + given * interval
local wait = paid - now - depth
if given == 0 then wait = wait + interval end
if given > 0 or owed ~= 0 then
  redis.call('SET', KEYS[1], string.format('%.2f', paid), 'PX', math.max(1, math.ceil((paid - now) / 1000)))
end
return { given, math.ceil(math.max(wait, 0)), math.ceil(paid - now) }
",
    )
});

/// Reads the secrets of a fleet: `version:created:hex`, the newest first, separated by commas. Times are milliseconds of the
/// server's clock. A key without secrets, or with older ones than the gateway knows, gets those of the gateway: it may have
/// been lost.
///
/// Arguments: the secrets that the gateway knows, a new one in hex or nothing, and the time in milliseconds that must have
/// passed since the last one. Keeps three earlier ones. Returns the secrets, the time, and whether the new one was added.
pub(super) static SECRETS: LazyLock<StoreScript> = LazyLock::new(|| {
    StoreScript::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('GET', KEYS[1]) or ''
local function version(all) return tonumber(string.match(all, '^(%d+):') or 0) end
if version(known) < version(ARGV[1]) then
  known = ARGV[1]
  redis.call('SET', KEYS[1], known)
end
local created = tonumber(string.match(known, '^%d+:(%d+):') or 0)
if ARGV[2] == '' or now - created < tonumber(ARGV[3]) then return { known, now, 0 } end
local kept = { string.format('%.0f:%.0f:%s', version(known) + 1, now, ARGV[2]) }
for secret in string.gmatch(known, '[^,]+') do
  if #kept < 4 then kept[#kept + 1] = secret end
end
known = table.concat(kept, ',')
redis.call('SET', KEYS[1], known)
return { known, now, 1 }
",
    )
});

/// Records a gateway's number of WebSockets of a client. A field is a gateway; its value is the number, the sequence of
/// the write, and until when it is valid without a heartbeat, in milliseconds of the server's clock. Fields of other
/// gateways that have ended are removed.
///
/// Arguments: gateway, number, sequence, limit, validity in milliseconds, life of the key in milliseconds, and the gateways
/// that live. Returns whether the number was within the limit.
pub(super) static COUNT: LazyLock<StoreScript> = LazyLock::new(|| {
    StoreScript::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local living = {}
for at = 7, #ARGV do living[ARGV[at]] = true end
local others, written = 0, 0
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
  local count, sequence, valid = string.match(fields[at + 1], '^(%d+) (%d+) (%d+)$')
  if fields[at] == ARGV[1] then
    written = tonumber(sequence or 0)
  elseif count and (living[fields[at]] or tonumber(valid) > now) then
    others = others + count
  else
    redis.call('HDEL', KEYS[1], fields[at])
  end
end
if others + ARGV[2] > tonumber(ARGV[4]) then return 0 end
if tonumber(ARGV[3]) > written then
  local valid = string.format('%.0f', now + ARGV[5])
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. valid)
  redis.call('PEXPIRE', KEYS[1], (others + ARGV[2] == 0) and ARGV[5] or ARGV[6])
end
return 1
",
    )
});

/// Records that a gateway lives. Members are gateways, with the moment until which they live as the score.
///
/// Arguments: gateway and life in milliseconds. Returns the gateways that live.
pub(super) static HEARTBEAT: LazyLock<StoreScript> = LazyLock::new(|| {
    StoreScript::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZRANGE', KEYS[1], 0, -1)
",
    )
});
