-- What a certificate tells of records that differ.
comment on column public.sync_certificates.differences is 'The first of them: array of {"keap_id", "entity_id", "fields", "reason"}; reason is differs, missing_in_keap, missing_in_supabase, or waiting (an edit is on its way).';
