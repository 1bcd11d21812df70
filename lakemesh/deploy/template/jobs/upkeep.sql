-- Small files become large ones, and what no version of the last week needs is removed. The name is put together because
-- OPTIMIZE and VACUUM take no IDENTIFIER clause on every version of a warehouse.
DECLARE OR REPLACE VARIABLE statement STRING;
SET VARIABLE statement = 'OPTIMIZE ' || :memory;
EXECUTE IMMEDIATE statement;
SET VARIABLE statement = 'VACUUM ' || :memory;
EXECUTE IMMEDIATE statement;
