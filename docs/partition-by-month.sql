-- Divides `images` by the month in which a file was claimed. PostgreSQL 13 or later; see scaling.md.
--   psql --single-transaction -v ON_ERROR_STOP=1 -f docs/partition-by-month.sql moodsort
-- with no service at work, and a copy made before.

LOCK TABLE images, faces, earlier_decisions IN ACCESS EXCLUSIVE MODE;

-- The primary key and everything unique must contain the month's column, and so says nothing about
-- two months together any more. What is unique over all of them moves to tables of its own.
CREATE TABLE claims (source_path varchar COLLATE "C" PRIMARY KEY);
CREATE TABLE places (destination_path varchar COLLATE "C" PRIMARY KEY)
    PARTITION BY HASH (destination_path);
CREATE TABLE places_0 PARTITION OF places FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE places_1 PARTITION OF places FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE places_2 PARTITION OF places FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE places_3 PARTITION OF places FOR VALUES WITH (MODULUS 4, REMAINDER 3);
INSERT INTO claims SELECT source_path FROM images WHERE state IN ('claimed', 'decided');
INSERT INTO places SELECT destination_path FROM images WHERE destination_path IS NOT NULL;

-- The views hold on to the table, not to its name: they are made anew below.
CREATE TEMPORARY TABLE views ON COMMIT DROP AS
    SELECT viewname, definition FROM pg_views
    WHERE schemaname = current_schema() AND viewname IN ('results', 'decisions');

-- What is there becomes the first part. Nothing can refer to `id` alone, which is not unique by
-- itself any more for the server.
ALTER TABLE faces DROP CONSTRAINT faces_image_id_fkey;
ALTER TABLE earlier_decisions DROP CONSTRAINT earlier_decisions_image_id_fkey;
ALTER TABLE images RENAME TO images_before;
ALTER TABLE images_before DROP CONSTRAINT images_pkey;
DROP INDEX one_claim_per_file, images_by_destination;
CREATE TABLE images (LIKE images_before INCLUDING DEFAULTS) PARTITION BY RANGE (claimed_at);
ALTER SEQUENCE images_id_seq OWNED BY images.id;
ALTER TABLE images ADD PRIMARY KEY (id, claimed_at);
ALTER TABLE images ADD FOREIGN KEY (model_id) REFERENCES models (id);
CREATE INDEX ON images (destination_path);
CREATE INDEX ON images (source_path) WHERE state IN ('claimed', 'decided');
-- Those that the first part has already are taken over as they are.
CREATE INDEX ON images (claimed_at, id);
CREATE INDEX ON images (label, claimed_at, id);
CREATE INDEX ON images (state, id);
CREATE INDEX ON images (state, claimed_at, id);
CREATE INDEX ON images (probability, id);
CREATE INDEX ON images (label, probability, id);
CREATE INDEX ON images (error_code, claimed_at, id) WHERE error_code IS NOT NULL;
CREATE INDEX ON images (claimed_at, id) WHERE corrected_label IS NOT NULL;
CREATE INDEX ON images (sha256);
CREATE INDEX ON images (moved_from) WHERE moved_from IS NOT NULL;
CREATE INDEX ON images (size_bytes, id) WHERE missing_since IS NOT NULL;

-- This month and all before stay in the first part; a part for each of the next twelve.
DO $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format(
        'ALTER TABLE images ATTACH PARTITION images_before FOR VALUES FROM (MINVALUE) TO (%L)',
        (month + interval '1 month') AT TIME ZONE 'UTC');
    FOR i IN 1..12 LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF images FOR VALUES FROM (%L) TO (%L)',
            to_char(month + i * interval '1 month', '"images_"YYYY_MM'),
            (month + i * interval '1 month') AT TIME ZONE 'UTC',
            (month + (i + 1) * interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END $$;

-- A file that is claimed already is passed over, as ON CONFLICT DO NOTHING does it.
CREATE FUNCTION claim_image() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('claimed', 'decided') THEN
        INSERT INTO claims VALUES (NEW.source_path) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF NEW.destination_path IS NOT NULL THEN
        INSERT INTO places VALUES (NEW.destination_path);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER claim_image BEFORE INSERT ON images
    FOR EACH ROW EXECUTE FUNCTION claim_image();

CREATE FUNCTION follow_image() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('claimed', 'decided')
        AND (TG_OP = 'DELETE' OR NEW.state NOT IN ('claimed', 'decided')) THEN
        DELETE FROM claims WHERE source_path = OLD.source_path;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM places WHERE destination_path = OLD.destination_path;
        DELETE FROM faces WHERE image_id = OLD.id;
        DELETE FROM earlier_decisions WHERE image_id = OLD.id;
    ELSIF NEW.destination_path IS DISTINCT FROM OLD.destination_path THEN
        DELETE FROM places WHERE destination_path = OLD.destination_path;
        IF NEW.destination_path IS NOT NULL THEN
            INSERT INTO places VALUES (NEW.destination_path);
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow_image AFTER UPDATE OF state, destination_path OR DELETE ON images
    FOR EACH ROW EXECUTE FUNCTION follow_image();

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM views LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %I AS %s', one.viewname, one.definition);
    END LOOP;
END $$;
