"""The tables of a Stitcher, and its queries in the order in which they run (see stitching.py)."""

# Messages, names and ids are hashes; 0 is none. The hash of a message covers all that is compared before it, too.
# `calls`: `tip` is the last message; `named` the same with the answers of tools, for identities; `answered`: it ends
# with a reply; `place`: in the file of texts; `row_count`: rows of the log; `request`: the message before the last
# reply; `turn`: the last request and reply alone; `messages`: how many are compared; `spoken`: how many are no system
# message.
# `nodes`: the replies of each call, with the message (`request`) and the reply (`parent`) before them; `known`: session
# or user show that equal messages are of one chat; `cut`: the reply did not end by itself. `passed`: requests that the
# user went on from without a reply. `chained`: calls that leave out their history, with the name of the call `above`.
# `elsewhere`: the ranges of scores in judgements that another Stitcher has.
TABLES = {
    "calls": {
        "call": "BIGINT", "tip": "BIGINT", "named": "BIGINT", "answered": "BOOLEAN", "started": "DOUBLE",
        "place": "BIGINT", "row_count": "BIGINT", "session": "BIGINT", "system": "BIGINT", "trace": "BIGINT",
        "request": "BIGINT", "turn": "BIGINT", "messages": "BIGINT", "spoken": "BIGINT",
        "has_user": "BOOLEAN", "has_model": "BOOLEAN",
    },
    "nodes": {
        "call": "BIGINT", "position": "BIGINT", "node": "BIGINT", "named": "BIGINT", "request": "BIGINT",
        "parent": "BIGINT", "last": "BOOLEAN", "known": "BOOLEAN", "started": "DOUBLE", "cut": "BOOLEAN",
    },
    "passed": {"node": "BIGINT"},
    "spares": {
        "call": "BIGINT", "trace": "BIGINT", "session": "BIGINT", "spare": "INTEGER", "started": "DOUBLE",
        "place": "BIGINT",
    },
    "chained": {"call": "BIGINT", "place": "BIGINT", "above": "BIGINT", "session": "BIGINT", "author": "BIGINT"},
    "ids": {"call": "BIGINT", "id": "BIGINT"},
    "evidence": {
        "evidence": "BIGINT", "rank": "BIGINT", "id": "BIGINT", "scale": "BIGINT", "stars": "BOOLEAN",
        "value": "DOUBLE", "place": "BIGINT",
    },
    "elsewhere": {"scale": "BIGINT", "low": "DOUBLE", "high": "DOUBLE", "stars": "BOOLEAN"},
}  # fmt: skip
LINKS = """
    SELECT call, place, coalesce(named.above_place, -1) AS above, session, author
    FROM chained LEFT JOIN (
        SELECT id AS above, min(place) AS above_place FROM ids JOIN (
            SELECT call, place FROM calls UNION ALL SELECT call, place FROM chained) USING (call)
        GROUP BY id) AS named USING (above)
    ORDER BY place"""
SPARES = """
    -- the records around calls that are used: one for each trace without calls. `session`: the trace's name as that of
    -- a session, because `calls` has no trace if both are named alike
    CREATE TABLE needed AS
        SELECT arg_min(call, (spare, started, call)) AS call
        FROM spares ANTI JOIN (SELECT DISTINCT trace FROM calls) USING (trace)
            ANTI JOIN (SELECT DISTINCT session FROM calls) USING (session)
        GROUP BY trace;"""
STITCH = """
    -- a span around other spans of its trace repeats their last request and reply, without the history
    CREATE TABLE turns AS
        SELECT turn, arg_max(tip, (messages, -call)) AS tip FROM calls WHERE turn <> 0
        GROUP BY turn HAVING min(messages) = 2 AND max(messages) > 2;
    UPDATE calls SET tip = turns.tip FROM turns WHERE calls.turn = turns.turn AND messages = 2;
    -- each reply once, with the first call that gave it
    CREATE TABLE replies AS
        SELECT node, any_value(request) AS request, any_value(parent) AS parent, any_value(known) AS known,
            min(started) AS started, min(call) AS call, coalesce(min(call) FILTER (last), min(call)) AS giver
        FROM nodes GROUP BY node;
    -- rank 1 is the first reply after its parent
    CREATE TABLE ranks AS
        SELECT node, started, row_number() OVER (PARTITION BY parent ORDER BY started, call) AS rank FROM replies;
    -- replies that did not end by themselves: only the call that gave one says so, not the calls that repeat it
    CREATE TABLE cut_replies AS SELECT DISTINCT node FROM nodes WHERE cut;
    -- messages after which another call goes on
    CREATE TABLE inner_nodes AS
        SELECT DISTINCT node FROM nodes WHERE NOT last UNION SELECT DISTINCT request FROM nodes
        UNION SELECT node FROM passed;
    -- of the calls that none continues, one for each conversation
    CREATE TABLE kept AS
        SELECT arg_min(call, (-spoken, call)) AS call
        FROM calls ANTI JOIN inner_nodes ON calls.tip = inner_nodes.node GROUP BY tip;
    -- tasks of a session whose calls hold one request and one reply each: the application keeps the history elsewhere.
    -- Calls of one request alone show no chat
    CREATE TABLE bare_tasks AS
        SELECT session, system, min(started) > 0 AS has_times FROM kept JOIN calls USING (call) WHERE session <> 0
        GROUP BY session, system
        HAVING count(DISTINCT request) > 1 AND min(messages) = 2 AND max(messages) = 2;
    -- replies that were asked for again: same request, same system message, but another trace. Words like "continue"
    -- are no second request where the history stands elsewhere
    CREATE TABLE regenerated AS
        SELECT node FROM (
            SELECT node, known, session, system, row_number() OVER asked AS age,
                CASE WHEN trace = 0 THEN 1 ELSE row_number() OVER in_trace END AS age_in_trace
            FROM replies JOIN (SELECT call AS giver, session, system, trace FROM calls) USING (giver)
            WINDOW asked AS (PARTITION BY request, system ORDER BY replies.started DESC, replies.call DESC),
                in_trace AS (PARTITION BY request, system, trace ORDER BY replies.started DESC, replies.call DESC))
            ANTI JOIN bare_tasks USING (session, system)
        WHERE known AND age > age_in_trace AND node NOT IN (SELECT parent FROM replies);
    -- how many calls a session has under each system message, and whether one of them holds a history
    CREATE TABLE tasks AS
        SELECT session, system, count(*) AS size, max(messages) > 2 AS history
        FROM calls SEMI JOIN bare_tasks USING (session) GROUP BY session, system;
    -- calls beside the chat (naming it, checking each request) have no history either: they share requests or traces
    -- with at least as many calls under another system message, or their session has as many calls with a history
    CREATE TABLE side_tasks AS
        SELECT DISTINCT session, system FROM (
            SELECT session, system, coalesce(max(size) FILTER (history) OVER of_session, 0) >= size
                OR max(size) OVER asked > size OR min(system) OVER asked_alike <> max(system) OVER asked_alike
                OR trace <> 0 AND (
                    max(size) OVER in_trace > size OR min(system) OVER trace_alike <> max(system) OVER trace_alike
                ) AS is_side_task
            FROM calls JOIN tasks USING (session, system)
            WINDOW of_session AS (PARTITION BY session), asked AS (PARTITION BY session, request),
                asked_alike AS (PARTITION BY session, request, size), in_trace AS (PARTITION BY session, trace),
                trace_alike AS (PARTITION BY session, trace, size))
        WHERE is_side_task;
    -- the other calls with one request and one reply each, which are one chat
    CREATE TABLE bare_calls AS
        SELECT call, min(place) OVER (PARTITION BY session, system) AS leader, started FROM (
            SELECT *, row_number() OVER (PARTITION BY session, system, request, trace ORDER BY started, call) AS sample
            FROM kept JOIN calls USING (call)
                JOIN bare_tasks USING (session, system) ANTI JOIN side_tasks USING (session, system)
            WHERE has_times)
        WHERE sample = 1 OR trace = 0;
    -- the calls of a session that name its user and its model, for those that do not
    CREATE TABLE session_names AS
        SELECT session, arg_min(place, (started, call)) FILTER (has_user) AS user,
            arg_max(place, (started, call)) FILTER (has_model) AS model
        FROM calls WHERE session <> 0 GROUP BY session HAVING NOT (bool_and(has_user) AND bool_and(has_model));
    -- the range of each score; whether it shows which values are good
    CREATE TABLE scales AS
        SELECT scale, min(low) AS low, max(high) AS high,
            min(low) >= -1 AND max(high) <= 1 AND NOT (bool_or(stars) AND min(low) = 1) AS is_clear
        FROM (
            SELECT scale, value AS low, value AS high, stars FROM evidence WHERE scale <> 0
            UNION ALL SELECT scale, low, high, stars FROM elsewhere)
        GROUP BY scale;
    -- the reply that a judgement is about: that of the most exact id
    CREATE TABLE targets AS
        SELECT evidence, arg_min(tip, (rank, -started, -call)) AS node
        FROM evidence JOIN ids USING (id) JOIN calls USING (call) WHERE answered GROUP BY evidence;
    -- every judgement, with its reply (or none) and its scale
    CREATE TABLE judged AS
        SELECT DISTINCT evidence, place, value, node, coalesce(low, -1) AS low, coalesce(high, 1) AS high,
            coalesce(is_clear, true) AS is_clear
        FROM evidence LEFT JOIN scales USING (scale) LEFT JOIN targets USING (evidence);"""
CONVERSATIONS = """
    SELECT calls.place AS place, coalesce(any_value(bare_calls.leader), calls.place) AS together,
        coalesce(arg_max(nodes.named, position) FILTER (rank > 1 OR first), any_value(calls.named)) AS identity,
        coalesce(arg_min(nodes.named, position), any_value(calls.named)) AS root,
        min(ranks.started) AS started,
        list(DISTINCT position) FILTER (regenerated.node IS NOT NULL) AS regenerated,
        list(DISTINCT position) FILTER (cut_replies.node IS NOT NULL) AS cut,
        list({position: position, place: judged.place, low: low, high: high} ORDER BY position, judged.place)
            FILTER (judged.place IS NOT NULL) AS judged,
        any_value(session_names.user) FILTER (NOT has_user) AS user,
        any_value(session_names.model) FILTER (NOT has_model) AS model
    FROM kept JOIN calls USING (call) LEFT JOIN session_names USING (session)
        LEFT JOIN (
            SELECT *, position = min(position) OVER (PARTITION BY call) AS first FROM nodes SEMI JOIN kept USING (call)
        ) AS nodes USING (call)
        LEFT JOIN ranks ON nodes.node = ranks.node
        LEFT JOIN regenerated ON nodes.node = regenerated.node
        LEFT JOIN cut_replies ON nodes.node = cut_replies.node
        LEFT JOIN judged ON judged.node = nodes.node AND is_clear
        LEFT JOIN bare_calls ON bare_calls.call = calls.call
    GROUP BY calls.call, calls.place ORDER BY together, any_value(bare_calls.started), calls.place"""
