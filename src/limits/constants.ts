// Limits and intervals of the sidecar, with their units in the names. A value that a protocol, a
// gateway or one algorithm fixes stays where it is used.

const KIB = 1024;
const MIB = 1024 * KIB;

// Memory of the process

/** Resident bytes at full load on cached tokens over HTTP and gRPC, without the cache. */
export const BASE_BYTES = 116 * MIB;
/** The part of {@link BASE_BYTES} on the JavaScript heap. */
export const BASE_HEAP_BYTES = 36 * MIB;
/** Average bytes of a cached result, with one rejected for each authenticated one. */
export const CACHE_ENTRY_BYTES = 1536;
/** Share of the remaining memory for connections. The rest of all shares is for garbage. */
export const CONNECTIONS_SHARE = 0.35;
/** Share of the remaining memory for requests. */
export const REQUESTS_SHARE = 0.35;
/** Share of the remaining heap for requests. */
export const REQUESTS_HEAP_SHARE = 0.4;
/** Even a process with too little memory must serve. `gatecar check` reports that risk. */
export const MIN_CONNECTIONS_BYTES = 2 * MIB;
/** Likewise for requests. */
export const MIN_REQUESTS_BYTES = 4 * MIB;
/** Share of the memory for requests that is for requests that wait for a review. */
export const WAITING_SHARE = 0.5;
/** Share of the transfers that only gRPC connections with an allowed request (gateways) may use. */
export const ALLOWED_ONLY_SHARE = 0.25;
/** More is never needed: this is 32,768 plain connections. */
export const MAX_CONNECTIONS_BYTES = 512 * MIB;
/** More is never needed: this is a request of 64 KiB on 2,048 connections. */
export const MAX_REQUESTS_BYTES = 128 * MIB;
/** Bytes of one open connection: measured idle, and rounded up. */
export const CONNECTION_BYTES = {
  http: 16 * KIB,
  grpc: 32 * KIB,
  /** Added for TLS: the session, and the memory that OpenSSL needs during the handshake. */
  tls: 80 * KIB,
} as const;

// Connections of all listeners

/** How long a connection must have been idle before the pool may close it for a new one. */
export const CONNECTION_MIN_IDLE_MS = 30_000;
/** How long after a search in vain the pool searches again for an idle connection. */
export const IDLE_SEARCH_EVERY_MS = 1_000;
/** How long a stream must have waited before it is given up for another: clients need some time. */
export const HELD_STREAM_MIN_WAIT_MS = 1_000;
/** Streams without a reservation that wait until their clients have read the response. */
export const MAX_UNRESERVED_STREAMS = 256;
/**
 * Streams that time out, or that connections without an allowed request displace, in one event-loop
 * iteration.
 */
export const MAX_GIVEN_UP_PER_TURN = 8;
/** Connections that start in one event-loop iteration. An HTTP/2 session costs more. */
export const STARTS_PER_TURN = { http: 16, grpc: 2 } as const;
/** The same limit with TLS, where each handshake computes a signature. */
export const HANDSHAKES_PER_TURN = 2;
/** How long a client may take for its TLS handshake. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often the TLS files are checked for changes. */
export const TLS_FILES_POLL_EVERY_MS = 1000;

// HTTP listener

/** Larger than the limit of any gateway. Node's 16 KiB rejects requests that nginx accepts. */
export const MAX_HTTP_HEADER_BYTES = 64 * KIB;
/** Longer than that of gateways (Envoy: one hour), so no request meets a closing connection. */
export const HTTP_KEEP_ALIVE_MS = 61 * 60 * 1000;
/** Pipelined requests that are read in one event-loop iteration. */
export const HTTP_REQUESTS_PER_TURN = 16;
/** How long a client may take to send a request. */
export const HTTP_REQUEST_TIMEOUT_MS = 10_000;
/** How often {@link HTTP_REQUEST_TIMEOUT_MS} is checked. */
export const HTTP_TIMEOUT_CHECK_MS = 1_000;
/** Body bytes per parser call. Bounds the cost of requests hidden behind the body's end. */
export const BODY_PIECE_BYTES = 1024;
/** Pieces of one connection that are parsed in one event-loop iteration. */
export const MAX_PIECES_PER_TURN = 64;
/** Bytes that the parser holds for each byte of an incomplete head. */
export const HELD_PER_HEAD_BYTE = 2;
/** Estimated bytes of a request that waits for a review, without its head. */
export const HTTP_REQUEST_HELD_BYTES = 6 * KIB;
/** Estimated bytes for each byte of its head. */
export const HTTP_HELD_PER_HEADER_BYTE = 2;
/** One review can release thousands of requests, which must not block the others. */
export const HTTP_RESPONSES_PER_TURN = { inAll: 64, perConnection: 1, ms: 3 };
/**
 * After the response, a body is read until no byte came for this time. Gateways send a body to its
 * end, and treat a connection that closes before that as a failure.
 */
export const BODY_DRAIN_MS = 1_000;
/** How long a body is read after the response in total. */
export const MAX_BODY_DRAIN_MS = 30_000;
/** How much of a body is read after the response. */
export const MAX_BODY_DRAIN_BYTES = 32 * MIB;
/** While draining, how long a connection that has received no data may still send its request. */
export const DRAIN_NO_DATA_MS = 250;
/** While draining, how long a connection with an incomplete request may take to complete it. */
export const DRAIN_PARTIAL_REQUEST_MS = 2_000;

// gRPC listener

/** Streams that a connection may have open. */
export const GRPC_MAX_STREAMS = 1024;
/** Largest headers of a call. Envoy sends the client's headers in the message. */
export const GRPC_MAX_HEADER_BYTES = 16 * KIB;
/** What Node and nghttp2 hold for a connection, not counting messages. */
export const GRPC_MAX_SESSION_MIB = 10;
/** PING and SETTINGS frames of a connection between two pings. Each requires a response. */
export const MAX_CONTROL_FRAMES_PER_PING = 1_000;
/** Sessions that are pinged or closed in one event-loop iteration. */
export const PINGS_PER_TURN = 4;
/** Frames per event-loop iteration of connections without an allowed request. */
export const FRAMES_PER_TURN = { frames: 256, streams: 12, ms: 1, pass: { frames: 16, streams: 1, bytes: 32 * KIB } };
/** Frames per event-loop iteration of connections with an allowed request. */
export const FRAMES_PER_TURN_OF_ALLOWED = {
  frames: 1024,
  streams: 64,
  ms: 10,
  pass: { frames: 256, streams: 22, bytes: 64 * KIB },
};
/** A flood by other clients must not close a connection for so few unread bytes. */
export const UNRESERVED_FRAME_BYTES = 4 * KIB;
/** How often gatecar pings a connection, and how long the client may take to respond. */
export const GRPC_PING_EVERY_MS = 10_000;
/** Estimated bytes of a call, without its message and headers. */
export const GRPC_STREAM_BYTES = 8 * KIB;
/** Estimated bytes for each byte of its headers. */
export const GRPC_HELD_PER_HEADER_BYTE = 2;
/** Calls per event-loop iteration of connections without an allowed request. */
export const CHECKS_PER_TURN = { inAll: 16, perConnection: 8, ms: 1 };
/** Calls per event-loop iteration of connections with an allowed request. */
export const CHECKS_PER_TURN_OF_ALLOWED = { inAll: 64, perConnection: 32, ms: 10 };
/** Streams that need no reservation, so a flood by other clients keeps no request out. */
export const UNRESERVED_STREAMS_PER_CONNECTION = 2;
/** Message bytes of such a stream. They are part of {@link CONNECTION_BYTES}. */
export const UNRESERVED_MESSAGE_BYTES = 4 * KIB;
/** How long gatecar waits for the rest of a message, or for the client to read a response. */
export const GRPC_CLIENT_TIMEOUT_MS = 10_000;
/** Estimated bytes of a check that waits for a review, without its message. */
export const CHECK_HELD_BYTES = 6 * KIB;
/** The kept part of a message. Heads are smaller, even with gateways that allow large ones. */
export const MAX_KEPT_MESSAGE_BYTES = MIB;
/** Each header is a field, and each field takes CPU time. */
export const MAX_MESSAGE_FIELDS = 4096;
/** Of a larger message, everything except the body is kept. */
export const MAX_WHOLE_MESSAGE_BYTES = 64 * KIB;
/** Share of the time until the gateway's deadline by which gatecar answers earlier. */
export const DEADLINE_MARGIN_SHARE = 0.1;
/** The least time by which gatecar answers before the gateway's deadline. */
export const DEADLINE_MIN_MARGIN_MS = 20;
/** How long a drain waits after the last call. Responses or requests may be in transit. */
export const GRPC_SETTLE_MS = 250;

// Credentials and forwarded values

/** The longest token that is processed, in characters. ServiceAccount tokens have 1000 to 2000. */
export const MAX_TOKEN_LENGTH = 16_384;
/** Rounds of unescaping. A text that needs all of them is treated as if it has a token. */
export const MAX_DECODING_ROUNDS = 5;
/** Base64 layers that are decoded: a token, and a text with such a token, again in base64. */
export const MAX_ENCODING_LAYERS = 2;
/** Longest examined text, in characters. The rest is cut off, which limits the time. */
export const MAX_REDACTED_TEXT_LENGTH = 4096;
/** Characters of a presented credential that are compared. No header field is longer. */
export const MAX_SECRET_LENGTH = 64 * KIB;
/**
 * In characters. A shorter credential occurs in other words and in trace ids by chance, so only an
 * exact copy of it is replaced. In trace IDs it is not searched for.
 */
export const MIN_REDACTED_LENGTH = 8;
/** One request to an unknown path is logged in full in this time. */
export const UNKNOWN_PATH_LOG_WINDOW_MS = 60_000;
/** In characters. */
export const MAX_LOGGED_PATH_LENGTH = 200;
/** Items of a list in the log line at start. */
export const MAX_LOGGED_ITEMS = 20;
/** Entries read from a chain of addresses. Each costs CPU, and a client may send thousands. */
export const MAX_FORWARDED_HOPS = 32;
/** Longest value that is taken from a header, in characters. */
export const MAX_FORWARDED_LENGTH = 256;
/** Longest value that is searched for a token. Redaction can shorten it to the limit above. */
export const MAX_EXAMINED_LENGTH = 1024;
/** In characters. A shorter value, as in a static token file, occurs in other text by chance. */
export const MIN_SECRET_LENGTH = 16;
/** Longest name in a response or a log, in characters. Names of the API server fit. */
export const MAX_NAME_LENGTH = 512;
/** Shared strings, shared lists and shared ServiceAccounts of the cache, each. */
export const MAX_INTERNED = 4096;
/** Longest shared value, in characters. It bounds the memory of shared values. */
export const MAX_INTERNED_LENGTH = 512;

// Result cache

/** Entries up to which the count omits expired ones. A check of more would block the event loop. */
export const MAX_EXACT_COUNT = 20_000;
/** Share of the TTL after which a use schedules a refresh. */
export const REFRESH_WINDOW_START = 0.8;
/** Share of the TTL after which a refresh may run. Late refreshes add few reviews. */
export const REFRESH_EARLIEST = 0.88;
/** Share of the TTL before which a refresh runs. */
export const REFRESH_LATEST = 0.98;
/** Weight of the latest refresh in the moving average of durations. */
export const REFRESH_EWMA_WEIGHT = 0.1;
/** A refresh starts at least so many average durations before the result expires. */
export const REFRESH_MARGIN_DURATIONS = 3;
/** Bytes of a waiting request whose gateway does not report them. */
export const WAITING_REQUEST_BYTES = 4096;

// Protection of the API server

/** Client addresses whose failures are counted at the same time. They take about 10 MiB. */
export const MAX_COUNTED_ADDRESSES = 50_000;
/** Slots for the rendered responses of identities, at about 2 KiB each. */
export const RENDERED_IDENTITY_SLOTS = 1024;
/** If the event loop is later than this, uncached tokens are rejected as `overloaded`. */
export const MAX_EVENT_LOOP_LAG_MS = 250;
/** The interval of the timer whose delay is measured. */
export const EVENT_LOOP_TICK_MS = 20;
/** While valid tokens are in use, one rejection is sent in this time. */
export const REJECTION_EVERY_MS = 4;
/** Rejections beyond this number are sent at once. */
export const MAX_WAITING_REJECTIONS = 1000;
/** How long after a valid token the traffic counts as valid. */
export const VALID_TRAFFIC_MS = 1000;
/** Share of slots and queue for unverified signatures, if others can be verified. */
export const UNVERIFIED_SHARE = 1 / 4;
/** Share of the slots that unverified tokens keep while no signature can be verified. */
export const MIN_UNVERIFIED_SHARE = 1 / 4;
/** How long a rejection lowers the limit. Later tokens do not suffer from earlier ones. */
export const UNVERIFIED_LIMIT_DECAY_MS = 1000;
/** Weight of the latest review in the moving average of durations. */
export const REVIEW_EWMA_WEIGHT = 0.1;
/** Longest error text of the API server that is kept, in characters. */
export const MAX_DETAIL_LENGTH = 512;
/** A longer `Retry-After` of the API server counts as this. */
export const MAX_RETRY_AFTER_SECONDS = 60;
/** How often the API server is probed while it is unreachable. */
export const PROBE_EVERY_MS = 1000;

// Clock of the API server

/** The largest difference between the two clocks at which token times are checked locally. */
export const MAX_SKEW_MS = 30_000;
/** How long a comparison counts: either clock may be set at any time. */
export const CLOCK_FRESH_MS = 10_000;
/** How long after the last difference beyond {@link MAX_SKEW_MS} the clocks count as different. */
export const CLOCK_DIFFERS_MS = 60_000;
/** Slower responses are ignored, because their send time is too uncertain. */
export const CLOCK_MAX_DURATION_MS = 5000;
/** If the elapsed times on the two local clocks differ by more, the wall clock was set. */
export const CLOCK_MAX_STEP_MS = 2000;

// JWKS

/** The shortest time between two fetches, for unknown keys and after a fetch that failed. */
export const JWKS_FETCH_EVERY_MS = 10_000;
/**
 * The shortest time between two fetches that confirm a rejection. Fetched keys confirm rejections
 * for the same time. A rejection is therefore always either confirmed or able to start a fetch.
 */
export const JWKS_CONFIRM_EVERY_MS = 500;
/** Further tokens do not wait: the API server reviews them. */
export const JWKS_MAX_WAITING_TOKENS = 256;
/** How long a token waits for a JWKS that confirms its rejection. */
export const JWKS_MAX_WAIT_MS = 250;
/** The lifetime of a document if the API server does not state one. */
export const JWKS_DEFAULT_LIFETIME_SECONDS = 3600;
/** The longest lifetime of a document. */
export const JWKS_MAX_LIFETIME_SECONDS = 86_400;
/** Replaced key sets that are kept: the API servers of a cluster may publish different sets. */
export const JWKS_MAX_REPLACED_SETS = 2;
/** How long they are kept. */
export const JWKS_REPLACED_FOR_MS = 600_000;
/** Larger keys are checked in the thread pool, so they do not block the event loop. */
export const MAX_QUICK_RSA_BITS = 4096;
/** Concurrent checks in the thread pool, which file reads and DNS look-ups share. */
export const MAX_SLOW_CHECKS = 64;
/** If more keys share a `kid`, none is used: one token could block the event loop. */
export const MAX_KEYS_OF_SAME_ID = 16;

// Client of the API server

/** The largest response that is read. A TokenReview with hundreds of groups has some 10,000. */
export const KUBE_MAX_RESPONSE_BYTES = MIB;
/** How long an idle connection is kept. The API server closes its own after 90 s. */
export const KUBE_KEEP_ALIVE_MS = 60_000;
/** How long no rotation is attempted after one in vain. An exec plugin may be costly. */
export const CREDENTIAL_BACKOFF_MS = 1000;
/** Minimum time between two checks whether a file has changed. */
export const FILE_CHECK_EVERY_MS = 1000;
/** How long a resolved kubeconfig, including exec plugin output, counts as current. */
export const KUBECONFIG_REFRESH_EVERY_MS = 10_000;
/** How long after a failure it is not read again, if its credential was not rejected. */
export const KUBECONFIG_TRY_AGAIN_MS = 1000;
/** How long an exec plugin may run before it is killed. */
export const EXEC_PLUGIN_TIMEOUT_MS = 60_000;
/** A client certificate with key and chain has about ten thousand. */
export const EXEC_PLUGIN_MAX_OUTPUT_BYTES = MIB;

// Ops listener

/** Reserved for the ops listener, so no flood elsewhere can block the kubelet's probes. */
export const OPS_CONNECTIONS = 64;
/** Probes and scrapes send small heads. */
export const OPS_HEADER_BYTES = 8 * KIB;
/** Longer than the interval of most probes and scrapes. */
export const OPS_KEEP_ALIVE_MS = 75_000;
/** The minimum time between two renderings of the metrics. */
export const METRICS_RENDER_EVERY_MS = 50;

// Logs, audit and traces

/** Time in which the decision log limits its lines. */
export const DECISION_LOG_WINDOW_MS = 10_000;
/** Time in which the log of failed handshakes limits its lines. */
export const HANDSHAKE_LOG_WINDOW_MS = 10_000;
/** In characters. Longer than any IP address with an interface name. */
export const MAX_LOGGED_PEER_LENGTH = 64;
/** Time in which the log of API server states limits its lines. */
export const HEALTH_LOG_WINDOW_MS = 10_000;
/** In characters. Longer values are cut. Every name that follows Kubernetes' rules is shorter. */
export const MAX_AUDITED_LENGTH = 512;
/** Further audiences are cut. */
export const MAX_AUDITED_AUDIENCES = 16;
/** Lines that wait for a slow, stuck or failing output. Further lines are dropped. */
export const LOG_MAX_BACKLOG_BYTES = 4 * MIB;
/** Size of one write, unless a line is longer. Container runtimes read this much at once. */
export const LOG_MAX_WRITE_BYTES = 16 * KIB;
/** Time from a failed write to the next attempt. */
export const LOG_RETRY_MS = 500;
/** The same while the process exits. */
export const LOG_LAST_RETRY_MS = 20;
/** Time until a busy output is tried again. */
export const LOG_BUSY_MS = 20;
/** How long the final export of spans may take. */
export const TRACE_FLUSH_LIMIT_MS = 2_000;
/** How long the process waits for its last lines to be written after a drain. */
export const LAST_LINES_MS = 2_000;
/** The same after an uncaught error. */
export const LAST_LINES_OF_FAULT_MS = 500;

// Commands

/** More than the longest token that gatecar accepts. */
export const EXPLAIN_MAX_INPUT_BYTES = MIB;
/** Longest untrusted text that a command prints, in characters. */
export const MAX_QUOTED_LENGTH = 300;
/** Names of the allowlists that `check` looks up. */
export const CHECK_MAX_LOOKUPS = 50;
/** How long `check` waits for a gatecar that already listens. */
export const CHECK_ASK_TIMEOUT_MS = 1000;
