#!/usr/bin/env python3
"""Checks a file of docker/cloud/ against what the cloud's own client library knows of its interface. Reads; calls nobody.

    check.py aws SERVICE OPERATION FILE.json     botocore's model of the operation
    check.py google API SCHEMA FILE.yaml         the discovery document in google-api-python-client
    check.py azure MODEL FILE.yaml               the model of azure-mgmt-containerinstance
    check.py toml FILE.toml                      prints it as JSON

Exits 0 and prints nothing if the file conforms, else 1 with a line a flaw.
"""
import json
import sys

import yaml


def aws(service, operation, path):
    from botocore.session import Session
    from botocore.validate import ParamValidator

    shape = Session().get_service_model(service).operation_model(operation).input_shape
    report = ParamValidator().validate(json.load(open(path)), shape)
    return [report.generate_report()] if report.has_errors() else []


def google(api, schema, path):
    from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR

    name, version = api.split(".")
    schemas = json.load(open(f"{DISCOVERY_DOC_DIR}/{name}.{version}.json"))["schemas"]
    kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}

    def walk(shape, value, at):
        if "$ref" in shape:
            shape = schemas[shape["$ref"]]
        kind = shape["type"]
        if kind == "object":
            if not isinstance(value, dict):
                return [f"{at}: not an object"]
            known, more = shape.get("properties", {}), shape.get("additionalProperties")
            flaws = []
            for key, inner in value.items():
                of = known.get(key, more)
                flaws += walk(of, inner, f"{at}.{key}") if of else [f"{at}.{key}: no such key"]
            return flaws
        if kind == "array":
            if not isinstance(value, list):
                return [f"{at}: not a list"]
            return [flaw for n, item in enumerate(value) for flaw in walk(shape["items"], item, f"{at}[{n}]")]
        if kind in kinds and (not isinstance(value, kinds[kind]) or kind != "boolean" and isinstance(value, bool)):
            return [f"{at}: {value!r} is no {kind}"]
        return []

    return walk({"$ref": schema}, yaml.safe_load(open(path)), schema)


def azure(model, path):
    from azure.mgmt.containerinstance import models

    # The envelope of a deployment by file, which the library puts around what it sends.
    envelope = {"apiVersion", "name", "type"}

    def walk(kind, value, at):
        if kind.startswith("[") or kind.startswith("{"):
            many = isinstance(value, list if kind[0] == "[" else dict)
            items = enumerate(value) if kind[0] == "[" and many else value.items() if many else ()
            return [f for n, v in items for f in walk(kind[1:-1], v, f"{at}[{n}]")] if many else [f"{at}: not {kind}"]
        of = getattr(models, kind, None)
        if of is None:
            scalar = {"str": str, "bool": bool, "int": int, "float": (int, float)}.get(kind, object)
            return [] if isinstance(value, scalar) else [f"{at}: {value!r} is no {kind}"]
        if not hasattr(of, "_attribute_map"):
            return [] if value in {v.value for v in of} else [f"{at}: {value!r} is no {kind}"]
        if not isinstance(value, dict):
            return [f"{at}: not an object"]
        known = {tuple(a["key"].split(".")): a["type"] for a in of._attribute_map.values()}
        flaws = []
        for key, inner in value.items():
            if (key,) in known:
                flaws += walk(known[(key,)], inner, f"{at}.{key}")
                continue
            below = {k[1]: t for k, t in known.items() if len(k) == 2 and k[0] == key}
            if not below or not isinstance(inner, dict):
                flaws += [] if at == model and key in envelope else [f"{at}.{key}: no such key"]
                continue
            for name, item in inner.items():
                flaws += walk(below[name], item, f"{at}.{key}.{name}") if name in below else [f"{at}.{key}.{name}: no such key"]
        needed = [a for a, rule in of._validation.items() if rule.get("required")]
        for name in needed:
            place = value
            for part in of._attribute_map[name]["key"].split("."):
                place = place.get(part) if isinstance(place, dict) else None
            if place is None:
                flaws.append(f"{at}: no {name}")
        return flaws

    return walk(model, yaml.safe_load(open(path)), model)


def toml(path):
    import tomllib

    print(json.dumps(tomllib.load(open(path, "rb"))))
    return []


found = {"aws": aws, "google": google, "azure": azure, "toml": toml}[sys.argv[1]](*sys.argv[2:])
print("\n".join(found), end="\n" if found else "")
sys.exit(1 if found else 0)
