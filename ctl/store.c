/* SPDX-License-Identifier: MIT
 * store.c: `quayctl doctor` and `quayctl sign`: questions to one store through the running mount. */
#include "ctl/daemon.h"
#include "ctl/place.h"

#include "base/cleanup.h"

#include <getopt.h>
#include <string.h>

static int probe(struct ctl *ctl, const char *key)
{
    json_t *r = NULL;
    int status = daemon_call(ctl, "probe", json_pack("{s:s}", "key", key), NULL, NULL, &r);
    if (status == CTL_OK)
        printf("%s: ok%s%s\n", key, json_string_length(r) ? ": " : "",
               json_string_length(r) ? json_string_value(r) : "");
    json_decref(r);
    return status;
}

static int run_doctor(struct ctl *ctl, int argc, char **argv)
{
    json_t *keys = NULL;
    size_t n;
    json_t *k;
    int worst = CTL_OK;

    if (argc > 2)
        return ctl_usage("doctor", "one KEY or none");
    if (argc == 2)
        return probe(ctl, argv[1]);
    int status = daemon_call(ctl, "keys", json_object(), NULL, NULL, &keys);
    if (status != CTL_OK)
        return status;
    json_array_foreach(keys, n, k) {
        status = probe(ctl, json_string_value(json_object_get(k, "name")));
        worst = status > worst ? status : worst;
    }
    json_decref(keys);
    return worst;
}

static int sign(struct ctl *ctl, const struct place *p, bool write, int64_t expires)
{
    json_t *r = NULL;
    json_t *args = json_pack("{s:s, s:s, s:b, s:I}", "key", p->key, "path", p->path, "write", (int)write,
                             "expires", (json_int_t)expires);
    if (!args)
        return ctl_message(CTL_FAILED, "names that are not UTF-8 cannot be given");
    int status = daemon_call(ctl, "sign", args, NULL, NULL, &r);
    if (status == CTL_OK)
        puts(json_string_value(r));
    json_decref(r);
    return status;
}

static int run_sign(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"op", required_argument, NULL, 'o'},
                                          {"expires", required_argument, NULL, 'e'},
                                          {"upload", no_argument, NULL, 'u'},
                                          {"download", no_argument, NULL, 'd'},
                                          {NULL, 0, NULL, 0}};
    int64_t expires = 3600;
    bool write = false;
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("sign", NULL);
        if (c == 'e' && (!parse_int(optarg, &expires) || expires < 1 || expires > 604800))
            return ctl_usage("sign", "--expires takes 1 to 604800 seconds, not '%s'", optarg);
        if (c == 'o' && strcmp(optarg, "read") != 0 && strcmp(optarg, "write") != 0)
            return ctl_usage("sign", "--op is read or write, not '%s'", optarg);
        if (c == 'u' || (c == 'o' && strcmp(optarg, "write") == 0))
            write = true;
    }
    if (argc - optind != 1)
        return ctl_usage("sign", "one PATH, please");
    struct places p;
    int status = places_resolve(ctl, "sign", 1, argv + optind, &p);
    if (status != CTL_OK)
        return status;
    status = !*p.v[0].path || p.v[0].dir ? ctl_usage("sign", "%s: the path of an object, please", argv[optind])
                                         : sign(ctl, &p.v[0], write, expires);
    places_done(&p);
    return status;
}

const struct ctl_command ctl_doctor = {
    .name = "doctor",
    .summary = "Ask a store, or all, whether it answers",
    .usage = "Usage: quayctl doctor [KEY]\n"
             "\n"
             "Sends one small request to the store and says what came back; or at which step it failed\n"
             "(name resolution, connecting, TLS, authentication, the clocks, the bucket, permission),\n"
             "and why.\n"
             "Exit status 0 when every store asked is well.\n",
    .run = run_doctor,
};

const struct ctl_command ctl_sign = {
    .name = "sign",
    .summary = "Make a signed URL for an object",
    .usage = "Usage: quayctl sign PATH [--op read|write] [--expires SECONDS]\n"
             "\n"
             "Prints a URL by which anybody reads the object PATH (KEY:path, KEY/path or a path in the\n"
             "mount), or writes it: it need not be there. For s3, gcs and azure.\n"
             "\n"
             "      --op WHAT       read (default) or write; --download and --upload say the same\n"
             "      --expires N     valid for N seconds, 1 to 604800 (default 3600)\n"
             "Whoever has the URL has that access until it expires.\n",
    .run = run_sign,
};
