comment on column public.sync_certificates.differences is 'The first of them: array of {"keap_id", "entity_id", "fields"}.';
