{{- /* A value of `config` as gatecar reads it from its environment. */ -}}
{{- define "gatecar.settingText" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end }}

{{- /*
Escapes a text for `env[].value`, `command` or `args`, so that the container gets it unchanged. Kubernetes reads `$$` as
`$` there, and replaces `$(NAME)` by the value of that variable.
*/ -}}
{{- define "gatecar.literal" -}}
{{- replace "$" "$$" . -}}
{{- end }}

{{- define "gatecar.settingName" -}}
{{- printf "GATECAR_%s" (snakecase . | upper) -}}
{{- end }}

{{- /* Former names of values under `config`, as YAML: former: current. They stay accepted. */ -}}
{{- define "gatecar.formerNames" -}}
audit: auditLog
failureLimit: clientFailureLimit
grace: cacheStaleIfError
localChecks: jwtPrecheck
refreshAhead: cacheRefreshAhead
trustedPeers: trustedProxies
{{- end }}

{{- /* The values under `config` by their current names, as YAML. */ -}}
{{- define "gatecar.config" -}}
{{- $former := include "gatecar.formerNames" . | fromYaml -}}
{{- $config := dict -}}
{{- range $key, $value := .Values.config -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $config (default $key (get $former $key)) $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{- /* Every setting in force that comes from the chart, as YAML: NAME: text. */ -}}
{{- define "gatecar.settings" -}}
{{- $settings := dict -}}
{{- range $key, $value := include "gatecar.config" . | fromYaml -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $settings (include "gatecar.settingName" $key) (include "gatecar.settingText" $value) -}}
{{- end -}}
{{- end -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $settings "GATECAR_TLS_CERT_FILE" "/etc/gatecar/tls/tls.crt" -}}
{{- $_ := set $settings "GATECAR_TLS_KEY_FILE" "/etc/gatecar/tls/tls.key" -}}
{{- end -}}
{{- if .Values.tls.clientCaSecret -}}
{{- $_ := set $settings "GATECAR_TLS_CLIENT_CA_FILE" "/etc/gatecar/client-ca/ca.crt" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{- /* `yes` if gatecar verifies no token. `basic` is the former name of this mode. */ -}}
{{- define "gatecar.isFormatOnly" -}}
{{- if has (default "" .Values.config.mode) (list "format-only" "basic") -}}yes{{- end -}}
{{- end }}

{{- /* An audience that gatecar accepts: the first one, or gatecar's default. Empty if `config.tokenAudiences` is empty. */ -}}
{{- define "gatecar.audience" -}}
{{- if kindIs "invalid" .Values.config.tokenAudiences -}}bindcar{{- else -}}{{- with .Values.config.tokenAudiences -}}{{- first . -}}{{- end -}}{{- end -}}
{{- end }}

{{- /* The URL scheme of the auth listener. */ -}}
{{- define "gatecar.scheme" -}}
{{- ternary "https" "http" (hasKey (include "gatecar.settings" . | fromYaml) "GATECAR_TLS_CERT_FILE") -}}
{{- end }}

{{- /* Whether `helm test` can send requests. It cannot if clients need a certificate, or if it does not know the CA. */ -}}
{{- define "gatecar.canBeTested" -}}
{{- $settings := include "gatecar.settings" . | fromYaml -}}
{{- $isOpen := or (not (hasKey $settings "GATECAR_TLS_CERT_FILE")) (and .Values.tls.existingSecret (not (hasKey $settings "GATECAR_TLS_CLIENT_CA_FILE"))) -}}
{{- if and .Values.deployment.enabled .Values.tests.enabled $isOpen -}}yes{{- end -}}
{{- end }}

{{- /* The settings that are in the ConfigMap, as YAML. */ -}}
{{- define "gatecar.allowlists" -}}
{{- pick (include "gatecar.settings" . | fromYaml) "GATECAR_ALLOWED_NAMESPACES" "GATECAR_ALLOWED_SERVICE_ACCOUNTS" | toYaml -}}
{{- end }}

{{- /* The port of an address. Empty for a Unix socket. */ -}}
{{- define "gatecar.port" -}}
{{- if and . (not (hasPrefix "unix:" .)) -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}
{{- end }}

{{- /* `yes` for an address that can be reached only from within the pod. */ -}}
{{- define "gatecar.isLocal" -}}
{{- if or (hasPrefix "unix:" .) (regexMatch "^(127\\.[0-9.]+|localhost|\\[::1\\]):" .) -}}yes{{- end -}}
{{- end }}

{{- /* The listeners of the container that have a port, as YAML: name: port. */ -}}
{{- define "gatecar.ports" -}}
{{- $ports := dict -}}
{{- with .Values.config -}}
{{- $listeners := dict "auth" (default ":9080" .listen) "ops" (default ":9081" .opsListen) "grpc" .grpcListen -}}
{{- range $name, $address := $listeners -}}
{{- with include "gatecar.port" $address -}}
{{- $_ := set $ports $name (int .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $ports -}}
{{- end }}

{{- define "gatecar.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- if hasSuffix "ms" . -}}{{- $number -}}
{{- else if hasSuffix "s" . -}}{{- mul $number 1000 -}}
{{- else -}}{{- mul $number 60000 -}}
{{- end -}}
{{- end }}

{{- /* Converts an amount of memory to bytes. 0 if it is not written like 256Mi or 1Gi, or is empty. */ -}}
{{- define "gatecar.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- if regexMatch "^[0-9]+Mi$" . -}}{{- mul $number 1048576 -}}
{{- else if regexMatch "^[0-9]+Gi$" . -}}{{- mul $number 1073741824 -}}
{{- else -}}0
{{- end -}}
{{- end }}

{{- /* The maximum duration of a drain, in whole seconds. */ -}}
{{- define "gatecar.drainSeconds" -}}
{{- $delay := include "gatecar.milliseconds" (default "5s" .Values.config.shutdownDelay) | int64 -}}
{{- $timeout := include "gatecar.milliseconds" (default "15s" .Values.config.shutdownTimeout) | int64 -}}
{{- div (add $delay $timeout 999) 1000 -}}
{{- end }}

{{- /* The grace period for the spec of the pod, also for your own pod. */ -}}
{{- define "gatecar.terminationGracePeriodSeconds" -}}
{{- $given := .Values.terminationGracePeriodSeconds | toString -}}
{{- if or (eq $given "") (eq $given "<nil>") -}}
{{- add (include "gatecar.drainSeconds" . | int64) 10 -}}
{{- else -}}
{{- $given -}}
{{- end -}}
{{- end }}
