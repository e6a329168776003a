-- Figures per five minutes, a day of them. `slot` is the time in milliseconds divided by 300,000.
-- Several nodes add to one row: in order of slot, then destination or instance. Their names do not
-- begin like those of partitions, which are found and weighed by name.
CREATE TABLE figures_delivery (
    destination    bigint NOT NULL,
    slot           bigint NOT NULL,
    accepted       bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    dead           bigint NOT NULL DEFAULT 0,
    expired        bigint NOT NULL DEFAULT 0,
    last_delivered bigint,
    latencies      bytea  NOT NULL DEFAULT '',
    PRIMARY KEY (destination, slot)
) WITH (fillfactor = 70);
CREATE INDEX figures_delivery_time ON figures_delivery (slot);

CREATE TABLE figures_event (
    instance bytea  NOT NULL,
    slot     bigint NOT NULL,
    events   bigint NOT NULL,
    PRIMARY KEY (instance, slot)
) WITH (fillfactor = 70);
CREATE INDEX figures_event_time ON figures_event (slot);
