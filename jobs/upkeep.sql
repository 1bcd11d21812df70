-- Small files become large ones, and what no version of the last week needs is removed.
OPTIMIZE IDENTIFIER(:memory);
VACUUM IDENTIFIER(:memory);
