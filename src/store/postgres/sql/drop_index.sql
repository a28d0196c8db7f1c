DROP INDEX CONCURRENTLY "mainstem"./* index */
