/* SPDX-License-Identifier: MIT
 * Where S3 keys come from, in which order, and what is said when there are none. */
#include "backends/s3/s3.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <sys/stat.h>

static char dir[] = "/tmp/quay-creds-XXXXXX";
static const char *fake_env[16][2];

static const char *env(const char *name)
{
    for (size_t i = 0; i < 16; i++)
        if (fake_env[i][0] && strcmp(fake_env[i][0], name) == 0)
            return fake_env[i][1];
    return NULL;
}

static void set_env(const char *name, const char *value)
{
    for (size_t i = 0; i < 16; i++)
        if (!fake_env[i][0] || strcmp(fake_env[i][0], name) == 0) {
            fake_env[i][0] = name;
            fake_env[i][1] = value;
            return;
        }
}

static void write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/.aws/%s", dir, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
    free(path);
}

static int load(const char *pairs, struct err *e, struct s3_creds *ret)
{
    char *text = xasprintf("[store x]\nbucket = bbb\n%s", pairs);
    struct conf *c = NULL;
    const struct conf_option *tables[] = {s3_class.options};
    size_t counts[] = {s3_class.n_options};
    err_clear(e);
    CHECK_INT(conf_parse("q.conf", text, e, &c), 0);
    struct conf_section *s = conf_find(c, "store", "x");
    CHECK(s != NULL);
    CHECK_INT(conf_check(s, tables, counts, 1, e), 0);
    int r = s3_creds_load(s, env, e, ret);
    conf_free(c);
    free(text);
    return r;
}

static void expect(const char *pairs, const char *id, const char *secret, const char *token)
{
    struct err e = ERR_INIT;
    struct s3_creds c = {0};
    CHECK_INT(load(pairs, &e, &c), 0);
    CHECK_STR(c.access_key, id);
    CHECK_STR(c.secret, secret);
    CHECK_STR(c.token ? c.token : "", token);
    CHECK(strstr(c.from, secret) == NULL);
    s3_creds_done(&c);
}

static void test_order(void)
{
    const char *own = "access_key_id = own\nsecret_access_key = own-s\nprofile = dev\n";
    expect(own, "own", "own-s", "");
    expect("aws_access_key_id = a\naws_secret_access_key = b\nsession_token = t\n", "a", "b", "t");
    expect("key = a\nsecret = b\n", "a", "b", "");
    expect("profile = dev\n", "dev-id", "dev-secret=", "dev-token");
    expect("", "def-id", "def-secret", "");
    set_env("AWS_PROFILE", "dev");
    expect("", "dev-id", "dev-secret=", "dev-token");
    set_env("AWS_ACCESS_KEY_ID", "env-id");
    set_env("AWS_SECRET_ACCESS_KEY", "env-secret");
    expect("", "env-id", "env-secret", "");
    expect("profile = dev\n", "dev-id",
           "dev-secret=", "dev-token"); /* named: before the environment */
    set_env("AWS_ACCESS_KEY_ID", "");
    set_env("AWS_PROFILE", "");
}

static void test_profile_of_config(void)
{
    struct err e = ERR_INIT;
    struct s3_creds c = {0};
    CHECK_INT(load("profile = only config\n", &e, &c), 0);
    CHECK_STR(c.access_key, "cfg-id");
    CHECK_STR(c.region, "eu-west-1");
    s3_creds_done(&c);
    CHECK_INT(load("profile = dev\n", &e, &c), 0);
    CHECK_STR(c.region, "eu-central-1"); /* keys from one file, region from the other */
    s3_creds_done(&c);
}

static void test_secret_file(void)
{
    char *path = xasprintf("%s/.aws/secret", dir);
    char *pairs = xasprintf("access_key_id = a\nsecret_access_key_file = %s\n", path);
    write_file("secret", "from-file\n");
    CHECK_INT(chmod(path, 0600), 0);
    expect(pairs, "a", "from-file", "");
    free(pairs);
    free(path);
}

static void test_role(void)
{
    struct err e = ERR_INIT;
    struct s3_creds c = {0}, of_default = {0};
    CHECK_INT(load("profile = role\n", &e, &c), 0);
    CHECK_INT(load("profile = default\n", &e, &of_default), 0);
    CHECK_STR(c.role_arn, "arn:aws:iam::1:role/x");
    CHECK_STR(c.external_id, "e-1");
    CHECK_STR(c.access_key, of_default.access_key);
    CHECK_STR(c.region, "eu-north-1");
    CHECK(c.profile == NULL && c.token_file == NULL);
    s3_creds_done(&c);
    s3_creds_done(&of_default);
    CHECK_INT(load("profile = pod\n", &e, &c), 0);
    CHECK_STR(c.token_file, "/token");
    CHECK(c.access_key == NULL);
    s3_creds_done(&c);
}

static void test_indirect(void)
{
    struct err e = ERR_INIT;
    struct s3_creds c = {0};
    CHECK_INT(load("profile = tool\n", &e, &c), 0);
    CHECK_STR(c.indirect.process, "/opt/tool --of \"a b\"");
    CHECK(!c.access_key && !c.profile && strstr(c.from, "credential_process of profile 'tool' in "));
    CHECK_STR(c.region, "eu-west-3");
    s3_creds_done(&c);
    CHECK_INT(load("profile = both\n", &e, &c), 0); /* keys come first */
    CHECK_STR(c.access_key, "both-id");
    CHECK(!s3_indirect_given(&c.indirect));
    s3_creds_done(&c);
    CHECK_INT(load("profile = single\n", &e, &c), 0);
    CHECK_STR(c.indirect.sso_session, "corp");
    CHECK_STR(c.indirect.sso_url, "https://corp.example/start");
    CHECK_STR(c.indirect.sso_region, "eu-west-2");
    CHECK_STR(c.indirect.sso_account, "123456789012");
    CHECK_STR(c.indirect.sso_role, "reader");
    CHECK_STR(c.indirect.portal, "https://portal.sso.eu-west-2.amazonaws.com");
    CHECK_STR(c.indirect.oidc, "https://oidc.eu-west-2.amazonaws.com");
    CHECK_STR(c.region, "eu-west-1");
    s3_creds_done(&c);
    set_env("AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:1");
    CHECK_INT(load("profile = legacy\n", &e, &c), 0);
    CHECK(!c.indirect.sso_session);
    CHECK_STR(c.indirect.portal, "http://127.0.0.1:1");
    s3_creds_done(&c);
    CHECK_INT(load("profile = through\n", &e, &c), 0);
    CHECK_STR(c.role_arn, "arn:aws:iam::1:role/t");
    CHECK(c.indirect.process && !c.access_key);
    s3_creds_done(&c);
    CHECK_INT(load("profile = half\n", &e, &c), -EACCES);
    CHECK(strstr(e.text, "profile 'half' in ") && strstr(e.text, "/.aws/config: SSO needs sso_account_id"));
    CHECK_INT(load("profile = lost\n", &e, &c), -EACCES);
    CHECK(strstr(e.text, "[sso-session nowhere] is not in "));
    CHECK_INT(load("profile = machine\n", &e, &c), -EACCES);
    CHECK(strstr(e.text, "credential_source") && strstr(e.text, "not supported"));
}

static void test_missing(void)
{
    struct err e = ERR_INIT;
    struct s3_creds c = {0};
    CHECK_INT(load("access_key_id = a\n", &e, &c), -EINVAL);
    CHECK(strstr(e.text, "q.conf:3") && strstr(e.text, "without secret_access_key"));
    CHECK_INT(load("secret_access_key = hush-hush\n", &e, &c), -EINVAL);
    CHECK(strstr(e.text, "hush-hush") == NULL);
    CHECK_INT(load("profile = nobody\n", &e, &c), -EACCES);
    CHECK(strstr(e.text, "'nobody'") && strstr(e.text, "q.conf:3"));
    CHECK_INT(load("profile = lonely\n", &e, &c), -EACCES);
    CHECK(strstr(e.text, "role_arn") != NULL);
    set_env("AWS_PROFILE", "nobody");
    CHECK_INT(load("", &e, &c), -EACCES);
    CHECK(strstr(e.text, "AWS_ACCESS_KEY_ID") && strstr(e.text, "'nobody'"));
    CHECK(strstr(e.text, "/.aws/credentials") && strstr(e.text, "anonymous = yes"));
    set_env("AWS_PROFILE", "");
    CHECK(c.access_key == NULL && c.secret == NULL);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    char *aws = xasprintf("%s/.aws", dir);
    CHECK_INT(mkdir(aws, 0700), 0);
    free(aws);
    set_env("HOME", dir);
    write_file(
        "credentials",
        "# comment\n[default]\naws_access_key_id=def-id\naws_secret_access_key = def-secret\n"
        "[dev]\naws_access_key_id = dev-id  \naws_secret_access_key=dev-secret=\n"
        "aws_session_token = dev-token\r\n[other]\naws_access_key_id = x\n");
    write_file("config",
               "[default]\nregion = us-west-2\n[profile dev]\nregion = eu-central-1\n"
               "aws_access_key_id = not-this\ns3 =\n  aws_access_key_id = nested\n"
               "[profile \"only config\"]\naws_access_key_id = cfg-id\n"
               "aws_secret_access_key = cfg-secret\nregion = eu-west-1\n"
               "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n"
               "external_id = e-1\nregion = eu-north-1\n"
               "[profile lonely]\nrole_arn = arn:aws:iam::1:role/y\n"
               "[profile pod]\nrole_arn = arn:aws:iam::1:role/z\nweb_identity_token_file = /token\n"
               "[profile tool]\ncredential_process = /opt/tool --of \"a b\"\nregion = eu-west-3\n"
               "[profile both]\naws_access_key_id = both-id\naws_secret_access_key = s\ncredential_process = x\n"
               "[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-2\n"
               "sso_registration_scopes = sso:account:access\n"
               "[profile single]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = reader\n"
               "region = eu-west-1\n"
               "[profile legacy]\nsso_start_url = https://old.example/start\nsso_region = eu-west-2\n"
               "sso_account_id = 1\nsso_role_name = reader\n"
               "[profile through]\nrole_arn = arn:aws:iam::1:role/t\nsource_profile = tool\n"
               "[profile half]\nsso_start_url = https://old.example/start\nsso_region = eu-west-2\n"
               "[profile lost]\nsso_session = nowhere\nsso_account_id = 1\nsso_role_name = reader\n"
               "[profile machine]\ncredential_source = Ec2InstanceMetadata\nrole_arn = \n");
    RUN(test_order);
    RUN(test_profile_of_config);
    RUN(test_secret_file);
    RUN(test_role);
    RUN(test_indirect);
    RUN(test_missing);
    char *rm = xasprintf("rm -rf '%s'", dir);
    CHECK_INT(system(rm), 0);
    free(rm);
    return t_done();
}
