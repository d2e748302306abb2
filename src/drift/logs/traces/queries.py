"""The tables of a Stitcher, and its queries in the order in which they run (see stitching.py)."""

# Messages, names and ids are hashes; 0 is none. The hash of a message covers all that is compared before it, too.
# `calls`: `tip` is the last message; `named` the same with the answers of tools, for identities; `answered`: it ends
# with a reply; `place`: in the file of texts; `row_count`: rows of the log; `request`: the message before the last
# reply; `turn`: the last request and reply alone; `messages`: how many are compared; `spoken`: how many are no system
# message; `within`: its trace, also where `trace` is 0 because the session is named alike; `author`: its user; `whose`:
# the same, but 0 where no other call of its session names another user.
# `nodes`: the replies of each call, with the message (`request`) and the reply (`parent`) before them; `given`: by
# this call, which does not only repeat it; `known`: session or user show that equal messages are of one chat; `cut`:
# the reply did not end by itself. `passed`: requests that the user went on from without a reply. `chained`: calls that
# leave out their history, with the name of the call `above`.
# `spares`: records around calls; those without texts stand only for what they name for the calls of their trace.
# `tags`: what calls and records around calls (`is_around`) say about consents; `value` is 0 for a time.
# `openings`: calls by their first two exchanges.
# `parts`: of conversations whose later calls hold only its last messages (see chains.py).
# `elsewhere`: the ranges of scores in judgements that another Stitcher has.
TABLES = {
    "calls": {
        "call": "BIGINT", "tip": "BIGINT", "named": "BIGINT", "answered": "BOOLEAN", "started": "DOUBLE",
        "place": "BIGINT", "row_count": "BIGINT", "session": "BIGINT", "system": "BIGINT", "trace": "BIGINT",
        "within": "BIGINT", "request": "BIGINT", "turn": "BIGINT", "messages": "BIGINT", "spoken": "BIGINT",
        "author": "BIGINT", "has_model": "BOOLEAN", "whose": "BIGINT",
    },
    "nodes": {
        "call": "BIGINT", "position": "BIGINT", "node": "BIGINT", "named": "BIGINT", "request": "BIGINT",
        "parent": "BIGINT", "last": "BOOLEAN", "given": "BOOLEAN", "known": "BOOLEAN", "started": "DOUBLE",
        "cut": "BOOLEAN",
    },
    "passed": {"call": "BIGINT", "node": "BIGINT"},
    "spares": {
        "call": "BIGINT", "trace": "BIGINT", "session": "BIGINT", "spare": "INTEGER", "started": "DOUBLE",
        "place": "BIGINT", "has_texts": "BOOLEAN", "has_session": "BOOLEAN", "has_user": "BOOLEAN",
        "names": "BIGINT", "author": "BIGINT",
    },
    "tags": {
        "call": "BIGINT", "trace": "BIGINT", "is_around": "BOOLEAN", "name": "BIGINT", "value": "BIGINT",
        "place": "BIGINT",
    },
    "chained": {"call": "BIGINT", "place": "BIGINT", "above": "BIGINT", "session": "BIGINT", "author": "BIGINT"},
    "ids": {"call": "BIGINT", "id": "BIGINT"},
    "evidence": {
        "evidence": "BIGINT", "rank": "BIGINT", "id": "BIGINT", "scale": "BIGINT", "stars": "BOOLEAN",
        "value": "DOUBLE", "given_at": "DOUBLE", "place": "BIGINT",
    },
    "elsewhere": {"scale": "BIGINT", "low": "DOUBLE", "high": "DOUBLE", "stars": "BOOLEAN"},
    "openings": {"call": "BIGINT", "opening": "BIGINT"},
    "parts": {
        "leaf": "BIGINT", "step": "DOUBLE", "call": "BIGINT", "start": "BIGINT", "until": "BIGINT",
        "is_branch": "BOOLEAN",
    },
}  # fmt: skip
TRACES = """
    -- what the records around the calls of a trace name: the place of one that does, if all that do name the same
    CREATE TABLE traces AS
        SELECT trace AS within,
            CASE WHEN count(DISTINCT names) FILTER (has_session) = 1
                THEN arg_min(place, (spare, started, call)) FILTER (has_session) END AS session,
            CASE WHEN count(DISTINCT author) FILTER (has_user) = 1
                THEN arg_min(place, (spare, started, call)) FILTER (has_user) END AS user
        FROM spares WHERE has_session OR has_user GROUP BY trace;
    -- the names that calls get from there, because they leave them out
    CREATE TABLE names AS
        SELECT * FROM (
            SELECT call, place, CASE WHEN calls.session = 0 THEN traces.session END AS session,
                CASE WHEN author = 0 THEN traces.user END AS user
            FROM calls JOIN traces USING (within))
        WHERE session IS NOT NULL OR user IS NOT NULL;
    -- these calls are added again, with the names
    DELETE FROM calls WHERE call IN (SELECT call FROM names);
    DELETE FROM nodes WHERE call IN (SELECT call FROM names);
    DELETE FROM passed WHERE call IN (SELECT call FROM names);"""
OPENINGS = """
    -- what the calls with one opening name, if all that do name the same: places of calls, or of records around them
    CREATE TABLE homes AS
        SELECT opening, min(coalesce(names.session, calls.place)) FILTER (calls.session <> 0) AS session,
            min(coalesce(names.user, calls.place)) FILTER (author <> 0) AS user
        FROM openings JOIN calls USING (call) LEFT JOIN names USING (call) GROUP BY opening
        HAVING count(DISTINCT calls.session) FILTER (calls.session <> 0) <= 1
            AND count(DISTINCT author) FILTER (author <> 0) <= 1;
    CREATE TABLE adopted AS
        SELECT DISTINCT call, calls.place AS place, homes.session AS session,
            CASE WHEN author = 0 THEN homes.user ELSE names.user END AS user
        FROM calls JOIN openings USING (call) JOIN homes USING (opening) LEFT JOIN names USING (call)
        WHERE calls.session = 0 AND (homes.session IS NOT NULL OR (author = 0 AND homes.user IS NOT NULL));
    DELETE FROM names WHERE call IN (SELECT call FROM adopted);
    INSERT INTO names SELECT * FROM adopted;
    DELETE FROM calls WHERE call IN (SELECT call FROM adopted);
    DELETE FROM nodes WHERE call IN (SELECT call FROM adopted);
    DELETE FROM passed WHERE call IN (SELECT call FROM adopted);"""
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
        WHERE has_texts GROUP BY trace;
    INSERT INTO names
        SELECT call, place, CASE WHEN NOT has_session THEN traces.session END,
            CASE WHEN NOT has_user THEN traces.user END
        FROM needed JOIN spares USING (call) JOIN traces ON trace = within;"""
STITCH = """
    -- sessions of several users (a channel, the name of an application): one of them is not in the chats of another
    CREATE TABLE shared AS
        SELECT session FROM calls WHERE session <> 0 AND author <> 0 GROUP BY session HAVING count(DISTINCT author) > 1;
    UPDATE calls SET whose = author WHERE session IN (SELECT session FROM shared);
    -- a span around other spans of its trace repeats their last request and reply, without the history
    CREATE TABLE turns AS
        SELECT turn, arg_max(tip, (messages, -call)) AS tip FROM calls WHERE turn <> 0
        GROUP BY turn HAVING min(messages) = 2 AND max(messages) > 2;
    UPDATE calls SET tip = turns.tip FROM turns WHERE calls.turn = turns.turn AND messages = 2;
    -- each reply once, with the first call that gave it, if one did
    CREATE TABLE replies AS
        SELECT node, any_value(request) AS request, any_value(parent) AS parent, any_value(known) AS known,
            min(started) AS started, min(call) AS call, min(call) FILTER (given) AS giver
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
        SELECT session, system, min(started) > 0 AS has_times FROM kept JOIN calls USING (call)
            LEFT JOIN (SELECT call, session IS NOT NULL AS is_given FROM names) USING (call)
        WHERE session <> 0 GROUP BY session, system
        HAVING count(DISTINCT request) > 1 AND min(messages) = 2 AND max(messages) = 2
            AND count(DISTINCT (trace, request)) FILTER (is_given AND trace <> 0)
                <= count(DISTINCT trace) FILTER (is_given AND trace <> 0);
    -- replies that were asked for again: same request, same system message, but another trace. Words like "continue"
    -- are no second request where the history stands elsewhere. A reply that no call gave is another one as its
    -- application wrote it into a history (shortened, say)
    CREATE TABLE regenerated AS
        SELECT node FROM (
            SELECT node, known, session, system, row_number() OVER asked AS age,
                CASE WHEN trace = 0 THEN 1 ELSE row_number() OVER in_trace END AS age_in_trace
            FROM replies JOIN (SELECT call AS giver, session, system, trace, whose FROM calls) USING (giver)
            WINDOW asked AS (PARTITION BY request, system, whose ORDER BY replies.started DESC, replies.call DESC),
                in_trace AS (
                    PARTITION BY request, system, whose, trace ORDER BY replies.started DESC, replies.call DESC))
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
        SELECT call, min(place) OVER (PARTITION BY session, system, whose) AS leader, started FROM (
            SELECT *, row_number() OVER (PARTITION BY session, system, request, trace ORDER BY started, call) AS sample
            FROM kept JOIN calls USING (call)
                JOIN bare_tasks USING (session, system) ANTI JOIN side_tasks USING (session, system)
            WHERE has_times)
        WHERE sample = 1 OR trace = 0;
    -- the calls of a session that name its user (if all name the same) and its model, for those that do not
    CREATE TABLE session_names AS
        SELECT calls.session, CASE WHEN count(DISTINCT author) FILTER (author <> 0) = 1
                THEN arg_min(coalesce(names.user, calls.place), (started, call)) FILTER (author <> 0) END AS user,
            arg_max(calls.place, (started, call)) FILTER (has_model) AS model
        FROM calls LEFT JOIN names USING (call) WHERE calls.session <> 0
        GROUP BY calls.session HAVING NOT (bool_and(author <> 0) AND bool_and(has_model));
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
        SELECT DISTINCT evidence, place, value, given_at, node, coalesce(low, -1) AS low, coalesce(high, 1) AS high,
            coalesce(is_clear, true) AS is_clear
        FROM evidence LEFT JOIN scales USING (scale) LEFT JOIN targets USING (evidence);"""
WINDOWS = """
    -- sessions in which a call begins with replies that no call gave under this beginning: `head`, how many messages
    -- stand before the first that one gave. `is_one`: the session, or its user, shows that the calls are of one chat;
    -- not if several chats begin in a session that names no user, or if others name theirs
    SELECT session, call, place, head, started, whose,
        author <> 0 OR (session NOT IN (SELECT session FROM shared) AND session NOT IN (
            SELECT session FROM replies JOIN calls ON giver = calls.call WHERE parent = session
            GROUP BY session, system HAVING count(DISTINCT replies.request) > 1)) AS is_one
    FROM (
        SELECT session, call, place, started, tip, author, whose, CASE WHEN first < given THEN given ELSE 0 END AS head,
            max(head) OVER of_session > 0 AND count(*) OVER of_session > 1 AND min(started) OVER of_session > 0
                AS has_any
        FROM calls JOIN (
            SELECT call, min(position) AS first,
                coalesce(min(position) FILTER (giver IS NOT NULL), 2147483647) AS given
            FROM nodes SEMI JOIN kept USING (call) JOIN replies USING (node) GROUP BY call) USING (call)
            ANTI JOIN bare_calls USING (call)
        WHERE session <> 0 WINDOW of_session AS (PARTITION BY session))
    WHERE has_any ORDER BY session, started, tip, call"""
MEMBERS = """
    DELETE FROM kept WHERE call IN (SELECT call FROM parts WHERE until IS NOT NULL);
    -- the calls of each conversation, in order
    CREATE TABLE members AS
        SELECT call, coalesce(leader, calls.place) AS together, coalesce(bare_calls.started, 0) AS step, 0 AS start,
            NULL AS until, false AS is_branch
        FROM kept JOIN calls USING (call) LEFT JOIN bare_calls USING (call) ANTI JOIN parts USING (call)
        UNION ALL SELECT call, leaf, step, start, until, is_branch FROM parts;
    -- the messages that these hold: calls that end with one of them are part of the conversation
    CREATE VIEW heard AS
        SELECT call, tip FROM calls SEMI JOIN members USING (call)
        UNION SELECT call, node FROM nodes SEMI JOIN members USING (call)
        UNION SELECT call, request FROM nodes SEMI JOIN members USING (call)
        UNION SELECT call, node FROM passed SEMI JOIN members USING (call);
    -- in a session of several users, that of the calls that are part of one without a user, if all that name one name
    -- the same
    CREATE TABLE chat_users AS
        SELECT heard.call, arg_min(coalesce(names.user, calls.place), (started, calls.call)) AS user
        FROM heard JOIN calls USING (tip) LEFT JOIN names ON names.call = calls.call
        WHERE author <> 0 AND heard.call IN (SELECT call FROM calls SEMI JOIN shared USING (session) WHERE author = 0)
        GROUP BY heard.call HAVING count(DISTINCT author) = 1;"""
CONSENTS = """
    -- what is said about a consent in each trace. Two values contradict each other, so a third adds nothing (here and
    -- below: else many values of many calls would be compared with each other)
    CREATE TABLE of_traces AS
        SELECT trace, is_around, name, value, min(place) AS place FROM tags
        WHERE trace <> 0 GROUP BY trace, is_around, name, value
        QUALIFY row_number() OVER (PARTITION BY trace, is_around, name ORDER BY min(place)) <= 2;
    -- by each call: itself, by the records around it, and (`gives`: false) by the other calls of its trace, which may
    -- be another user's: these can refuse, but not consent
    CREATE TABLE of_calls AS
        SELECT call, name, value, place, true AS gives FROM tags WHERE NOT is_around
        UNION ALL SELECT call, name, value, of_traces.place, is_around FROM calls JOIN of_traces
            ON of_traces.trace = within;
    -- by the calls that end with each message
    CREATE TABLE of_tips AS
        SELECT tip, gives, name, value, min(of_calls.place) AS place FROM of_calls JOIN calls USING (call)
        GROUP BY tip, gives, name, value
        QUALIFY row_number() OVER (PARTITION BY tip, gives, name ORDER BY min(of_calls.place)) <= 2;
    -- in each conversation: by its call, and by the calls that are part of it. Where neither session nor user shows
    -- that these are of the same people, they can refuse, but not consent
    CREATE TABLE said AS
        SELECT call, name, value, place, gives FROM of_calls SEMI JOIN members USING (call)
        UNION ALL SELECT heard.call, name, value, of_tips.place, gives AND (session <> 0 OR author <> 0)
                AND session NOT IN (SELECT session FROM shared) AND heard.call NOT IN (SELECT call FROM adopted)
        FROM heard JOIN of_tips USING (tip) JOIN calls ON calls.call = heard.call;
    -- what other records add to what a call of a conversation says itself: their places, with the names. A consent that
    -- nothing in the conversation gives is none without a refusal, too
    CREATE TABLE consents AS
        WITH told AS (
            SELECT together, said.* FROM said JOIN (SELECT DISTINCT call, together FROM members) USING (call))
        SELECT call, together, list({place: place, names: names} ORDER BY place) AS tags FROM (
            SELECT call, together, place, list(DISTINCT name) AS names FROM (
                SELECT call, together, name, value, min(told.place) AS place
                FROM told SEMI JOIN (SELECT together, name FROM told WHERE gives) USING (together, name)
                    ANTI JOIN (SELECT call, name, value FROM tags WHERE NOT is_around) USING (call, name, value)
                GROUP BY call, together, name, value)
            GROUP BY call, together, place)
        GROUP BY call, together;"""
CONVERSATIONS = """
    SELECT calls.place AS place, together, any_value(members.start) AS start, any_value(members.until) AS until,
        any_value(is_branch) AS is_branch,
        coalesce(arg_max(nodes.named, position) FILTER (rank > 1 OR first), any_value(calls.named)) AS identity,
        coalesce(arg_min(nodes.named, position), any_value(calls.named)) AS root,
        min(ranks.started) AS started,
        list(DISTINCT position) FILTER (regenerated.node IS NOT NULL) AS regenerated,
        list(DISTINCT position) FILTER (cut_replies.node IS NOT NULL) AS cut,
        list({position: position, place: judged.place, low: low, high: high} ORDER BY position, given_at, judged.place)
            FILTER (judged.place IS NOT NULL) AS judged,
        coalesce(any_value(names.user), any_value(session_names.user) FILTER (author = 0), any_value(chat_users.user))
            AS user,
        any_value(session_names.model) FILTER (NOT has_model) AS model,
        any_value(names.session) AS session, any_value(consents.tags) AS tags
    FROM members JOIN calls USING (call) LEFT JOIN session_names ON session_names.session = calls.session
        LEFT JOIN names USING (call) LEFT JOIN chat_users USING (call) LEFT JOIN consents USING (call, together)
        LEFT JOIN (
            SELECT *, position = min(position) OVER (PARTITION BY call) AS first
            FROM nodes SEMI JOIN members USING (call)
        ) AS nodes USING (call)
        LEFT JOIN ranks ON nodes.node = ranks.node
        LEFT JOIN regenerated ON nodes.node = regenerated.node
        LEFT JOIN cut_replies ON nodes.node = cut_replies.node
        LEFT JOIN judged ON judged.node = nodes.node AND is_clear
    GROUP BY calls.call, calls.place, together, step ORDER BY together, step, calls.place"""
