-- The operators' keys, stored as SHA-256: a key has 256 random bits, so no salt and no slow hash.

create table api_keys (
    api_key_id uuid primary key,
    name text not null,
    role text not null,
    key_hash bytea not null,
    created_at timestamptz not null,
    revoked_at timestamptz,
    constraint api_keys_hash_once unique (key_hash),
    constraint api_keys_role_known check (role in ('viewer', 'operator', 'admin'))
);
