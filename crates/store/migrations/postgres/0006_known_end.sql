-- Whether events are taken: what the node that looks after the space has decided. No row: they are.
CREATE TABLE refusal (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    reason text NOT NULL
);

-- A shard that ends before where it has ended belongs to a database that has lost commits. Numbers
-- go on beyond those that may have been given out, and the stretch between is noted as lost: decided
-- while nobody appends. Gives where it ended and where it goes on; no row if somebody was faster, or
-- nothing is lost.
CREATE FUNCTION zapbus_go_beyond(p_shard int, p_known bigint, p_jump bigint,
    OUT o_found bigint, OUT o_floor bigint)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    last_at bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(2053206388, p_shard);
    SELECT h.seq, h.at INTO o_found, last_at FROM zapbus_head(p_shard) h;
    IF o_found >= p_known THEN
        RETURN;
    END IF;
    o_floor := p_known + p_jump;
    UPDATE shard s SET floor = o_floor WHERE s.shard = p_shard;
    INSERT INTO generation (shard, number, old_head, first, last_received_at, began_at)
        SELECT p_shard, coalesce(max(g.number), 0) + 1, o_found, o_floor + 1, last_at,
            greatest(zapbus_now(), last_at)
        FROM generation g WHERE g.shard = p_shard;
    RETURN NEXT;
END $$;

-- As the function of the same name without `p_known`, which nodes of the version before call.
-- `p_known` is where the caller knows the shard to have ended: fails with ZB003 when it ends before.
CREATE FUNCTION zapbus_append(
    p_shard int, p_clock bigint, p_window bigint,
    p_instance bytea[], p_random bytea[], p_kind int[], p_flags int[],
    p_head bytea[], p_data bytea[], p_raw bytea[], p_body_of int[],
    p_key_event int[], p_key bytea[],
    p_blob_event int[], p_blob bytea[],
    p_content_sha bytea[], p_content bytea[],
    p_body_sha bytea[], p_body bytea[],
    p_concerns int[],
    p_alias_event int[], p_lid text[], p_phone text[],
    p_since bigint, p_known bigint
)
RETURNS TABLE (o_ord int, o_seq bigint, o_id bytea, o_at bigint, o_duplicate boolean, o_before bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    missing  bytea;
    last_seq bigint;
    last_at  bigint;
    now_at   bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(2053206388, p_shard);
    -- From here on a new statement: its snapshot has what the last holder of the lock committed.
    SELECT u.i INTO missing FROM (SELECT DISTINCT i FROM unnest(p_instance) AS e(i)) u
        WHERE NOT EXISTS (SELECT 1 FROM instance n WHERE n.id = u.i AND n.deleted_at IS NULL)
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ZB001', MESSAGE = encode(missing, 'hex');
    END IF;
    SELECT h.seq, h.at INTO last_seq, last_at FROM zapbus_head(p_shard, p_since) h;
    IF last_seq < p_known THEN
        RAISE EXCEPTION USING ERRCODE = 'ZB003',
            MESSAGE = format('shard %s ends at %s, and has ended at %s', p_shard, last_seq, p_known);
    END IF;
    IF last_seq + cardinality(p_instance) >= 9007199254740992 THEN
        RAISE EXCEPTION 'the journal has no positions left';
    END IF;
    now_at := greatest(coalesce(p_clock, zapbus_now()), last_at);
    RETURN QUERY
    WITH event AS (
        SELECT e.* FROM unnest(p_instance, p_random, p_flags, p_body_of)
            WITH ORDINALITY AS e(instance, random, flags, body_of, ord)
    ), known AS (
        SELECT DISTINCT ON (k.ord) k.ord, d.id, d.seq, d.received_at
        FROM unnest(p_key_event, p_key) AS k(ord, hash)
        CROSS JOIN LATERAL (
            SELECT d.id, d.seq, d.received_at FROM dedup d
            WHERE d.hash = k.hash AND d.received_at >= now_at - p_window
            ORDER BY d.received_at, d.seq LIMIT 1
        ) d
        ORDER BY k.ord, d.received_at, d.seq
    ), placed AS MATERIALIZED (
        SELECT e.ord::int AS ord, e.instance, e.flags, e.body_of, k.ord IS NOT NULL AS duplicate,
            coalesce(k.id, substring(int8send(now_at) FROM 3) || e.random) AS id,
            coalesce(k.seq,
                last_seq + count(*) FILTER (WHERE k.ord IS NULL) OVER (ORDER BY e.ord)) AS seq,
            coalesce(k.received_at, now_at) AS received_at
        FROM event e LEFT JOIN known k ON k.ord = e.ord
    ), stored AS (
        INSERT INTO journal (shard, class, seq, received_at, kind, flags, id, instance, head, data,
            raw)
        SELECT p_shard, (p.flags >> 1) & 1, p.seq, now_at, e.kind, p.flags, p.id, p.instance,
            e.head, e.data, e.raw
        FROM placed p
        JOIN unnest(p_kind, p_head, p_data, p_raw) WITH ORDINALITY AS e(kind, head, data, raw, ord)
            ON e.ord = p.ord
        WHERE NOT p.duplicate
    ), keyed AS (
        INSERT INTO dedup (received_at, seq, hash, id)
        SELECT DISTINCT ON (k.hash) now_at, p.seq, k.hash, p.id
        FROM unnest(p_key_event, p_key) AS k(ord, hash)
        JOIN placed p ON p.ord = k.ord AND NOT p.duplicate
    ), blobs AS (
        INSERT INTO blob (sha256, bytes, refs, content)
        SELECT c.sha, octet_length(c.content), count(*), c.content
        FROM unnest(p_blob_event, p_blob) AS b(ord, sha)
        JOIN placed p ON p.ord = b.ord AND NOT p.duplicate
        JOIN unnest(p_content_sha, p_content) AS c(sha, content) ON c.sha = b.sha
        GROUP BY c.sha, c.content ORDER BY c.sha
        ON CONFLICT (sha256) DO UPDATE SET refs = blob.refs + excluded.refs
    ), bodies AS (
        INSERT INTO body (shard, sha256, instance, first_seq, last_seq, received_at, body)
        SELECT p_shard, b.sha, p.instance, p.first_seq, p.last_seq, now_at, b.body
        FROM (
            SELECT body_of, instance, min(seq) AS first_seq, max(seq) AS last_seq
            FROM placed WHERE body_of IS NOT NULL GROUP BY body_of, instance
        ) p
        JOIN unnest(p_body_sha, p_body) WITH ORDINALITY AS b(sha, body, ord) ON b.ord = p.body_of
        ON CONFLICT (sha256, instance) DO UPDATE SET
            first_seq = least(body.first_seq, excluded.first_seq),
            last_seq = greatest(body.last_seq, excluded.last_seq),
            received_at = excluded.received_at
    ), states AS (
        INSERT INTO instance_state (instance, stale_from, stale_to)
        SELECT p.instance, min(p.seq), max(p.seq) FROM placed p
        WHERE p.ord = ANY (p_concerns) AND NOT p.duplicate
        -- In the order in which pruning takes them.
        GROUP BY p.instance ORDER BY p.instance
        ON CONFLICT (instance) DO UPDATE SET
            stale_from = coalesce(instance_state.stale_from, excluded.stale_from),
            stale_to = excluded.stale_to
    ), aliases AS (
        INSERT INTO address_alias (instance, lid, phone)
        SELECT p.instance, a.lid, a.phone
        FROM unnest(p_alias_event, p_lid, p_phone) AS a(ord, lid, phone)
        JOIN placed p ON p.ord = a.ord AND NOT p.duplicate
        ON CONFLICT DO NOTHING
    )
    SELECT p.ord, p.seq, p.id, p.received_at, p.duplicate, last_seq FROM placed p ORDER BY p.ord;
END $$;
