{{- /*
Reports all values that gatecar or the API server would reject and that the schema cannot express, each by its name. The
rules of gatecar itself are those of src/config/cross-setting-rules.ts.
*/ -}}
{{- define "gatecar.validate" -}}
{{- $faults := list -}}
{{- range $part := list "gatecar.settingFaults" "gatecar.listenerFaults" "gatecar.objectFaults" -}}
{{- $faults = concat $faults (include $part $ | fromYamlArray) -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end }}

{{- define "gatecar.settingFaults" -}}
{{- $faults := list -}}
{{- $settings := include "gatecar.settings" . | fromYaml -}}
{{- range $former, $current := include "gatecar.formerNames" . | fromYaml -}}
{{- $given := list -}}
{{- range $key := list $former $current -}}
{{- if not (kindIs "invalid" (index $.Values.config $key)) -}}
{{- $given = append $given $key -}}
{{- end -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- $faults = append $faults (printf "config.%s and config.%s must not both be set: the first is the former name of the second" $former $current) -}}
{{- end -}}
{{- end -}}
{{- with include "gatecar.config" . | fromYaml -}}
{{- if and .clientIpHeader (not .trustedProxies) -}}
{{- $faults = append $faults "config.clientIpHeader needs config.trustedProxies: a forwarded header is used only from a trusted proxy" -}}
{{- end -}}
{{- if and .clientFailureLimit (or (not .trustedProxies) (not (or .clientIpHeader .grpcListen))) -}}
{{- $faults = append $faults "config.clientFailureLimit needs config.trustedProxies, and config.clientIpHeader or config.grpcListen: it counts by the client address that a trusted proxy sends" -}}
{{- end -}}
{{- if and .kubeApiUrl .kubeContext -}}
{{- $faults = append $faults "config.kubeApiUrl and config.kubeContext must not both be set: a context belongs to a kubeconfig" -}}
{{- end -}}
{{- if and .cacheStaleIfError .cacheTtl -}}
{{- if and (ne (include "gatecar.milliseconds" .cacheStaleIfError) "0") (eq (include "gatecar.milliseconds" .cacheTtl) "0") -}}
{{- $faults = append $faults "config.cacheStaleIfError needs config.cacheTtl above 0: a result that is not cached cannot be served later" -}}
{{- end -}}
{{- end -}}
{{- if and (include "gatecar.isFormatOnly" $) (not .allowInsecureBasic) -}}
{{- range $key := list "listen" "grpcListen" -}}
{{- $address := get $.Values.config $key -}}
{{- if and $address (not (include "gatecar.isLocal" $address)) -}}
{{- $faults = append $faults (printf "config.mode format-only verifies no token: config.%s must be a loopback address or a Unix socket, or config.allowInsecureBasic must be true; got %q" $key $address) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.existingSecret (or .Values.config.tlsCertFile .Values.config.tlsKeyFile) -}}
{{- $faults = append $faults "tls.existingSecret and config.tlsCertFile or config.tlsKeyFile must not both be set: there is only one certificate" -}}
{{- end -}}
{{- if and .Values.tls.clientCaSecret .Values.config.tlsClientCaFile -}}
{{- $faults = append $faults "tls.clientCaSecret and config.tlsClientCaFile must not both be set" -}}
{{- end -}}
{{- if ne (empty $settings.GATECAR_TLS_CERT_FILE) (empty $settings.GATECAR_TLS_KEY_FILE) -}}
{{- $faults = append $faults "config.tlsCertFile and config.tlsKeyFile must be set together" -}}
{{- end -}}
{{- if and $settings.GATECAR_TLS_CLIENT_CA_FILE (empty $settings.GATECAR_TLS_CERT_FILE) -}}
{{- $faults = append $faults "tls.clientCaSecret and config.tlsClientCaFile need tls.existingSecret or config.tlsCertFile: without TLS, clients send no certificate" -}}
{{- end -}}
{{- /* The names that gatecar accepts, including bindcar's. gatecar exits if one setting has two values. */ -}}
{{- $aliases := dict "BIND_TOKEN_AUDIENCES" "TOKEN_AUDIENCES" "BIND_ALLOWED_NAMESPACES" "ALLOWED_NAMESPACES" "BIND_ALLOWED_SERVICE_ACCOUNTS" "ALLOWED_SERVICE_ACCOUNTS" "KUBECONFIG" "KUBECONFIG" "KUBE_API_SERVER" "KUBE_API_URL" "KUBE_TOKEN_PATH" "KUBE_TOKEN_FILE" "KUBE_CA_CERT_PATH" "KUBE_CA_FILE" -}}
{{- range $former, $current := include "gatecar.formerNames" . | fromYaml -}}
{{- $_ := set $aliases (include "gatecar.settingName" $former) (snakecase $current | upper) -}}
{{- end -}}
{{- /* Settings that ports, probes, the Service, the drain and the Ingress depend on. */ -}}
{{- $followed := list "LISTEN" "OPS_LISTEN" "GRPC_LISTEN" "SHUTDOWN_DELAY" "SHUTDOWN_TIMEOUT" "TLS_CERT_FILE" "TLS_KEY_FILE" "TLS_CLIENT_CA_FILE" "IDENTITY_HEADER_PREFIX" -}}
{{- range .Values.extraEnv -}}
{{- $setting := default (ternary (trimPrefix "GATECAR_" .name) "" (hasPrefix "GATECAR_" .name)) (get $aliases .name) -}}
{{- if $setting -}}
{{- $key := $setting | lower | camelcase | untitle -}}
{{- if and (hasPrefix "TLS_" $setting) (hasKey $settings (printf "GATECAR_%s" $setting)) (empty (get $.Values.config $key)) -}}
{{- $faults = append $faults (printf "extraEnv: %s is set by tls already" .name) -}}
{{- else if hasKey $settings (printf "GATECAR_%s" $setting) -}}
{{- $faults = append $faults (printf "extraEnv: %s must be set as config.%s, which has a value already" .name $key) -}}
{{- else if not .valueFrom -}}
{{- $faults = append $faults (printf "extraEnv: %s must be set as config.%s, which the chart validates; extraEnv accepts a setting only from a Secret or ConfigMap (valueFrom)" .name $key) -}}
{{- else if has $setting $followed -}}
{{- $faults = append $faults (printf "extraEnv: %s must be set as config.%s: other parts of the chart depend on it" .name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "gatecar.listenerFaults" -}}
{{- $faults := list -}}
{{- $seen := dict -}}
{{- range $key := list "listen" "opsListen" "grpcListen" -}}
{{- with get $.Values.config $key -}}
{{- $what := default . (include "gatecar.port" .) -}}
{{- if hasKey $seen $what -}}
{{- $faults = append $faults (printf "config.%s and config.%s must differ; got %q" (get $seen $what) $key .) -}}
{{- end -}}
{{- $_ := set $seen $what $key -}}
{{- if and (include "gatecar.port" .) (or (eq (int $what) 0) (gt (int $what) 65535)) -}}
{{- $faults = append $faults (printf "config.%s must have a port from 1 to 65535; got %q" $key .) -}}
{{- end -}}
{{- if and (include "gatecar.isLocal" .) (or $.Values.deployment.enabled (eq $key "opsListen")) -}}
{{- $faults = append $faults (printf "config.%s must be reachable from outside the pod, by %s; got %q" $key (ternary "the kubelet's probes" "the Service" (eq $key "opsListen")) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "gatecar.objectFaults" -}}
{{- $faults := list -}}
{{- $drain := include "gatecar.drainSeconds" . | int64 -}}
{{- if le (include "gatecar.terminationGracePeriodSeconds" . | int64) $drain -}}
{{- $faults = append $faults (printf "terminationGracePeriodSeconds must be more than the %d s of config.shutdownDelay and config.shutdownTimeout, otherwise the kubelet interrupts requests" $drain) -}}
{{- end -}}
{{- $memory := include "gatecar.bytes" (dig "limits" "memory" "" (default dict .Values.resources) | toString) | int64 -}}
{{- if and $memory (gt (include "gatecar.bytes" (default "" .Values.config.memoryLimit) | int64) $memory) -}}
{{- $faults = append $faults (printf "config.memoryLimit must not be more than resources.limits.memory; got %q and %q" .Values.config.memoryLimit (toString .Values.resources.limits.memory)) -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $faults = append $faults "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if eq (has (toString .minAvailable) (list "" "<nil>")) (has (toString .maxUnavailable) (list "" "<nil>")) -}}
{{- $faults = append $faults "podDisruptionBudget needs exactly one of minAvailable and maxUnavailable" -}}
{{- end -}}
{{- end -}}
{{- $servicePorts := dict -}}
{{- range $key, $name := dict "port" "auth" "opsPort" "ops" "grpcPort" "grpc" -}}
{{- $port := get $.Values.service $key | toString -}}
{{- if hasKey (include "gatecar.ports" $ | fromYaml) $name -}}
{{- if hasKey $servicePorts $port -}}
{{- $faults = append $faults (printf "service.%s and service.%s must differ; got %s" (get $servicePorts $port) $key $port) -}}
{{- end -}}
{{- $_ := set $servicePorts $port $key -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- $faults = append $faults "metrics.serviceMonitor and metrics.podMonitor must not both be enabled: each pod would be scraped twice" -}}
{{- end -}}
{{- range $name := .Values.metrics.prometheusRule.disabled -}}
{{- if not (contains (printf "alert: %s\n" $name) ($.Files.Get "files/rules.yaml")) -}}
{{- $faults = append $faults (printf "metrics.prometheusRule.disabled names an alert that the chart does not have: %q" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (eq (include "gatecar.scheme" .) "https") -}}
{{- $faults = append $faults "ingress.enabled must not be set with tls.existingSecret or config.tlsCertFile: ingress-nginx calls gatecar over plain http" -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}
